from __future__ import annotations

import pytest
import torch
from torch import nn

from helpers.tiny_sdxl import tiny_unet
from stiefel_lora import CheckpointError
from stiefel_lora.adapters import add_lora, factors_of, load_factors, pairs_of
from stiefel_lora.adapters.lora import alpha_of
from stiefel_lora.methods import method

TARGETS = [
    "down_blocks.1.attentions.0.transformer_blocks.0.attn1.to_q",
    "down_blocks.1.attentions.0.transformer_blocks.0.ff.net.2",
    "conv_in",
]


def adapted(name: str = "stiefel_lora", seed: int = 0, **options: float) -> nn.Module:
    torch.manual_seed(1)
    unet = tiny_unet().to(torch.bfloat16)
    settings = {"rank": 4, "alpha": 4.0, **options}
    names = add_lora(unet, targets=TARGETS, method=method(name), seed=seed, **settings)
    assert sorted(names) == sorted(TARGETS)
    return unet


def test_factors_are_float32_and_nothing_else_is_trained() -> None:
    unet = adapted()
    trained = {n: p for n, p in unet.named_parameters() if p.requires_grad}
    assert len(trained) == 2 * len(TARGETS)
    assert all(p.dtype == torch.float32 for p in trained.values())
    assert unet.conv_out.weight.dtype == torch.bfloat16


def test_stiefel_starts_orthonormal_and_at_zero() -> None:
    for pair in pairs_of(adapted()):
        up, down = pair.matrices
        assert torch.allclose(up.T @ up, torch.eye(4), atol=1e-5)
        assert not down.any()


def test_plain_lora_starts_random_and_at_zero() -> None:
    for pair in pairs_of(adapted("adamw")):
        up, down = pair.matrices
        assert not up.any()
        bound = down.shape[1] ** -0.5
        assert 0.5 * bound < float(down.detach().abs().max()) <= bound


@pytest.mark.parametrize("name", ["stiefel_lora", "adamw"])
def test_start_depends_on_the_seed_alone(name: str) -> None:
    first = factors_of(adapted(name, seed=3))
    torch.rand(100)
    again, other = factors_of(adapted(name, seed=3)), factors_of(adapted(name, seed=4))
    assert all(torch.equal(first[key], again[key]) for key in first)
    assert any(not torch.equal(first[key], other[key]) for key in first)


def test_alpha_scales_what_is_added() -> None:
    unet = adapted("adamw", alpha=6.0)
    assert {alpha_of(unet, pair) for pair in pairs_of(unet)} == {6.0}


def test_factors_go_back_bit_for_bit() -> None:
    unet = adapted("adamw")
    saved = {name: torch.randn_like(value) for name, value in factors_of(unet).items()}
    load_factors(unet, saved)
    assert all(torch.equal(saved[n], v) for n, v in factors_of(unet).items())


def test_other_layers_or_shapes_are_refused() -> None:
    unet = adapted("adamw")
    saved = factors_of(unet)
    name = next(iter(saved))
    with pytest.raises(CheckpointError, match=f"{name} has shape \\(2, 2\\) in"):
        load_factors(unet, {**saved, name: torch.zeros(2, 2)})
    saved.pop(name)
    with pytest.raises(CheckpointError, match="different layers"):
        load_factors(unet, saved)
