"""A start that a frozen adapter takes away again."""

from __future__ import annotations

import pytest
import torch
from test_lora import TARGETS
from torch import nn

from helpers.tiny_sdxl import tiny_unet
from stiefel_lora.adapters import (
    add_lora,
    effective_update,
    factors_of,
    load_factors,
    pairs_of,
    set_offset,
)
from stiefel_lora.methods import method
from stiefel_lora.optim.loi import Loi

ALPHA, RANK = 6.0, 2


def with_offset() -> nn.Module:
    torch.manual_seed(1)
    unet = tiny_unet()
    settings = {"rank": RANK, "alpha": ALPHA, "targets": TARGETS[:2], "seed": 0}
    add_lora(unet, method=method("adamw"), init="loi", **settings)
    return unet


@torch.no_grad()
def start(unet: nn.Module) -> None:
    """Put every pair at a random point and take it away again."""
    torch.manual_seed(2)
    starts = []
    for pair in pairs_of(unet):
        for factor in (pair.up, pair.down):
            factor.copy_(torch.randn_like(factor))
        up, down = pair.up.detach().clone(), pair.down.detach().clone()
        starts.append(Loi(pair, torch.zeros(0), up, down))
    set_offset(unet, starts)


def output(layer: nn.Module) -> torch.Tensor:
    generator = torch.Generator().manual_seed(3)
    return layer(torch.randn(5, layer.in_features, generator=generator))


def test_only_the_trained_adapter_is_trained() -> None:
    unet = with_offset()
    trained = [name for name, p in unet.named_parameters() if p.requires_grad]
    assert len(trained) == 4
    assert all(".default." in name for name in trained)
    assert [pair.name for pair in pairs_of(unet)] == sorted(TARGETS[:2])


def test_a_started_model_computes_what_it_did() -> None:
    unet = with_offset()
    layers = [unet.get_submodule(name) for name in TARGETS[:2]]
    before = [output(layer) for layer in layers]
    start(unet)
    for layer, expected in zip(layers, before, strict=True):
        # Adding and taking away rounds twice at the size of the adapter's output,
        # some 30 times that of the layer.
        torch.testing.assert_close(output(layer), expected, atol=1e-4, rtol=0)
    with torch.no_grad():
        for pair in pairs_of(unet):
            pair.up.add_(1)
    for layer, expected in zip(layers, before, strict=True):
        assert (output(layer) - expected).abs().max() > 0.1


def test_moved_products_are_differences() -> None:
    unet = with_offset()
    start(unet)
    before = [(p.up @ p.down).detach() for p in pairs_of(unet)]
    with torch.no_grad():
        for pair in pairs_of(unet):
            pair.up.mul_(1.5)
            pair.down.add_(0.1)
    pairs = pairs_of(unet)
    for pair, moved, old in zip(
        pairs, effective_update(unet, pairs).pairs, before, strict=True
    ):
        assert (moved.name, moved.rank) == (pair.name, 2 * RANK)
        torch.testing.assert_close(
            moved.up @ moved.down, pair.up @ pair.down - old, atol=1e-5, rtol=0
        )


def test_without_an_offset_the_pairs_themselves_move() -> None:
    unet = tiny_unet()
    add_lora(unet, rank=2, alpha=2, targets=TARGETS, method=None, seed=0)
    pairs = pairs_of(unet)
    for pair, moved in zip(pairs, effective_update(unet, pairs).pairs, strict=True):
        assert moved is pair


def test_a_checkpoint_keeps_both_adapters() -> None:
    unet = with_offset()
    start(unet)
    saved = {name: value.clone() for name, value in factors_of(unet).items()}
    assert sum(".offset." in name for name in saved) == 4
    other = with_offset()
    load_factors(other, saved)
    layer = TARGETS[0]
    assert torch.equal(
        output(other.get_submodule(layer)), output(unet.get_submodule(layer))
    )


@pytest.mark.parametrize("init", ["loi", "stella"])
def test_starts_are_seeded(init: str) -> None:
    def factors(seed: int) -> dict[str, torch.Tensor]:
        unet = tiny_unet()
        settings = {"rank": 4, "alpha": 4, "targets": TARGETS[:2], "seed": seed}
        add_lora(unet, method=method("stella"), init=init, **settings)
        return factors_of(unet)

    first, again, other = factors(0), factors(0), factors(1)
    assert all(torch.equal(first[name], again[name]) for name in first)
    assert any(not torch.equal(first[name], other[name]) for name in first)


def test_stella_starts_with_singular_values_of_one() -> None:
    unet = tiny_unet()
    settings = {"rank": 4, "alpha": 4, "targets": TARGETS[:2], "seed": 0}
    add_lora(unet, method=method("stella"), init="stella", **settings)
    for pair in pairs_of(unet):
        values = torch.linalg.svdvals((pair.up @ pair.down).detach())[:4]
        torch.testing.assert_close(values, torch.ones(4), atol=1e-5, rtol=0)
