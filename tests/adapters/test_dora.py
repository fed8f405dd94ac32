"""DoRA in the model: identity at the start, the split of g.2, float32 lengths."""

from __future__ import annotations

import copy
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from helpers.tiny_sdxl import tiny_unet
from stiefel_lora import create_optimizer
from stiefel_lora.adapters import (
    add_lora,
    effective_update,
    factors_of,
    load_factors,
    magnitude_of,
    pairs_of,
)
from stiefel_lora.methods import CATALOGUE, method

LINEAR = "down_blocks.1.attentions.0.transformer_blocks.0.attn1.to_q"
CONV = "down_blocks.1.resnets.0.conv1"


def adapted(name: str = "stiefel_lora", alpha: float = 4.0) -> nn.Module:
    torch.manual_seed(1)
    unet = tiny_unet()
    settings = {"rank": 4, "seed": 0, "targets": [LINEAR, CONV]}
    add_lora(unet, method=method(name), alpha=alpha, use_dora=True, **settings)
    return unet


def inputs(dtype: torch.dtype = torch.float32) -> tuple[Any, ...]:
    random = torch.Generator().manual_seed(2)
    latents = torch.randn(1, 4, 8, 8, generator=random)
    states = torch.randn(1, 5, 40, generator=random)
    conditions = {
        "text_embeds": torch.randn(1, 24, generator=random),
        "time_ids": torch.tensor([[8.0, 8, 0, 0, 8, 8]]),
    }
    conditions = {name: value.to(dtype) for name, value in conditions.items()}
    return latents.to(dtype), 300, states.to(dtype), None, None, None, None, conditions


def output(unet: nn.Module, dtype: torch.dtype = torch.float32) -> Tensor:
    with torch.no_grad():
        return unet(*inputs(dtype)).sample


def moved_model(unet: nn.Module, scale: float) -> nn.Module:
    """Factors and magnitudes away from the start, by seeded amounts."""
    random = torch.Generator().manual_seed(3)
    with torch.no_grad():
        for pair in pairs_of(unet):
            for tensor in (pair.down, magnitude_of(unet, pair)):
                assert tensor is not None
                tensor += scale * torch.randn(tensor.shape, generator=random)
    return unet


@pytest.mark.parametrize("name", list(CATALOGUE))
def test_the_model_is_unchanged_at_the_start(name: str) -> None:
    torch.manual_seed(1)
    plain = output(tiny_unet())
    # T19; the tiny product of Riemannion's start is allowed for.
    assert (output(adapted(name)) - plain).abs().max() <= 1e-5 * plain.abs().max()


@pytest.mark.parametrize("layer", [LINEAR, CONV])
def test_the_update_splits_into_its_two_parts(layer: str) -> None:
    unet = moved_model(adapted("adamw", alpha=6.0), 0.05)
    (pair,) = (p for p in pairs_of(unet) if p.name == layer)
    moves = effective_update(unet, [pair])
    (moved,) = moves.pairs
    adapter: Any = unet.get_submodule(layer)
    base = adapter.get_base_layer().weight.detach().double().flatten(1)
    up, down = (matrix.detach().double() for matrix in pair.matrices)
    magnitude = magnitude_of(unet, pair)
    assert magnitude is not None
    whole = base + 1.5 * up @ down
    scales = (magnitude.detach().double().flatten() / whole.norm(dim=1))[:, None]
    ranked = 1.5 * moved.matrices[0].double() @ moved.matrices[1].detach().double()
    expected = scales * whole - base
    found = (scales - 1) * base + ranked
    # Rows of the stacked factors are float32: a few roundings.
    assert (found - expected).norm() <= 1e-6 * expected.norm()
    change = ((scales - 1) * base).norm() / base.norm()
    assert moves.magnitude_changes == [pytest.approx(float(change), 1e-4)]


def test_a_layer_computes_with_the_weight_of_the_formula() -> None:
    unet = moved_model(adapted(), 0.05)
    plain = copy.deepcopy(unet)
    with torch.no_grad():
        for pair in pairs_of(unet):
            layer: Any = plain.get_submodule(pair.name)
            weight = layer.get_base_layer().weight
            whole = weight.flatten(1) + pair.matrices[0] @ pair.matrices[1]
            magnitude = magnitude_of(unet, pair)
            assert magnitude is not None
            whole *= (magnitude.flatten() / whole.norm(dim=1))[:, None]
            weight.copy_(whole.view_as(weight))
    plain.disable_adapters()
    expected = output(plain)
    assert (output(unet) - expected).abs().max() <= 1e-5 * expected.abs().max()


def test_lengths_are_float32_where_the_model_is_not() -> None:
    torch.manual_seed(1)
    half = tiny_unet().to(torch.bfloat16)
    settings = {"rank": 4, "alpha": 4.0, "seed": 0, "method": method("adamw")}
    add_lora(half, targets=[LINEAR], use_dora=True, **settings)
    (pair,) = pairs_of(half)
    magnitude = magnitude_of(half, pair)
    layer: Any = half.get_submodule(LINEAR)
    lengths = layer.get_base_layer().weight.detach().double().norm(dim=1)
    assert magnitude is not None
    assert magnitude.dtype == torch.float32
    assert torch.allclose(magnitude.detach().double(), lengths, rtol=1e-6)
    dora = layer.lora_magnitude_vector["default"]
    weight = layer.get_base_layer().weight
    with torch.autocast("cpu", torch.bfloat16):
        found = dora.get_weight_norm(
            weight=weight, lora_weight=torch.zeros_like(weight), scaling=1.0
        )
    assert torch.allclose(found.double(), lengths, rtol=1e-6)


def test_everything_goes_back_bit_for_bit() -> None:
    saved = factors_of(moved_model(adapted(), 0.1))
    assert sum("magnitude" in name for name in saved) == 2
    fresh = adapted()
    load_factors(fresh, saved)
    assert all(torch.equal(saved[n], v) for n, v in factors_of(fresh).items())


@pytest.mark.parametrize("name", [n for n in CATALOGUE if n != "adamw_8bit"])
def test_magnitudes_are_trained_and_do_not_decay(name: str) -> None:
    unet = adapted(name)
    optimizer = create_optimizer(name, unet, lr=1e-3, weight_decay=0.5)
    before = [magnitude_of(unet, pair).clone() for pair in pairs_of(unet)]  # type: ignore[union-attr]
    for parameter in unet.parameters():
        if parameter.requires_grad:
            parameter.grad = torch.zeros_like(parameter)
    optimizer.step()
    for pair, start in zip(pairs_of(unet), before, strict=True):
        assert torch.equal(magnitude_of(unet, pair), start)  # type: ignore[arg-type]
    unet(*inputs()).sample.square().mean().backward()
    optimizer.step()
    for pair, start in zip(pairs_of(unet), before, strict=True):
        assert not torch.equal(magnitude_of(unet, pair), start)  # type: ignore[arg-type]
