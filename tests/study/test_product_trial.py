"""The trial of the product's step equals the package's where nothing is exchanged."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import torch
from torch import Tensor

from helpers.plugin_methods import forgetting_plugins
from stiefel_lora.methods import load_plugin
from stiefel_lora.optim import PairOptimizer, StiefelLoRA

PATH = Path(__file__).resolve().parents[2] / "benchmarks" / "study" / "variants.py"
SIDES = ((40, 30, 8), (24, 50, 8), (16, 16, 4))


@pytest.fixture(scope="module")
def trial() -> Iterator[Callable[..., PairOptimizer]]:
    with forgetting_plugins():
        (record,) = load_plugin(str(PATH))
        assert record.implementation is not None
        yield record.implementation


def _products_after(
    make: Callable[..., PairOptimizer], steps: int = 20, **options: object
) -> list[Tensor]:
    """B A of three pairs after steps towards random targets."""
    generator = torch.Generator().manual_seed(0)
    named, targets = [], []
    for place, (out, into, rank) in enumerate(SIDES):
        down = torch.randn(rank, into, generator=generator) * 0.3
        up = torch.randn(out, rank, generator=generator) * 0.1
        named.append((f"{place}.lora_A.weight", torch.nn.Parameter(down)))
        named.append((f"{place}.lora_B.weight", torch.nn.Parameter(up)))
        targets.append(torch.randn(out, into, generator=generator))
    optimizer = make(named, lr=0.05, **options)
    for _ in range(steps):
        optimizer.zero_grad()
        for place, target in enumerate(targets):
            down, up = named[2 * place][1], named[2 * place + 1][1]
            (up @ down - target).square().sum().backward()
        optimizer.step()
    return [named[i + 1][1].detach() @ named[i][1].detach() for i in range(0, 6, 2)]


def test_without_options_it_is_the_step_of_the_package(
    trial: Callable[..., PairOptimizer],
) -> None:
    expected = _products_after(StiefelLoRA, step="product", momentum=0.9)
    for found, product in zip(_products_after(trial), expected, strict=True):
        # Sums are taken in another order, and the polynomials of the core amplify
        # float32 rounding of directions that they do not resolve.
        torch.testing.assert_close(found, product, rtol=0, atol=2e-3 * product.norm())


@pytest.mark.parametrize(
    "options",
    [
        {"nesterov": True},
        {"softness": 0.3},
        {"softness": 1.0, "noise": "running"},
        {"width": True},
    ],
    ids=str,
)
def test_every_option_changes_the_step(
    trial: Callable[..., PairOptimizer], options: dict[str, object]
) -> None:
    plain = torch.cat([product.flatten() for product in _products_after(trial)])
    moved = _products_after(trial, **options)
    found = torch.cat([product.flatten() for product in moved])
    assert torch.isfinite(found).all()
    assert (found - plain).norm() > 1e-2 * plain.norm()
