"""Norms of the products, and products scaled with the state of their optimizer."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor, nn

from stiefel_lora import create_optimizer
from stiefel_lora.geometry import random_orthonormal
from stiefel_lora.methods import CATALOGUE
from stiefel_lora.optim.pairs import Pair
from stiefel_lora.optim.product_norms import product_norms, scale_products
from stiefel_lora.optim.rule import keeps_orthonormal

F64 = torch.float64
ORTHONORMAL: list[tuple[str, dict[str, Any]]] = [
    ("stiefel_lora", {}),
    ("stiefel_lora", {"step": "factors"}),
    ("stiefel_lora", {"step": "factors", "a_rule": "adamw", "b_rule": "momentum"}),
    ("riemannion", {"momentum_form": "raw"}),
    ("riemannion", {"momentum_form": "orthogonal"}),
    ("stella", {}),
    ("stella", {"base_rule": "sgd"}),
    ("stella", {"base_rule": "lion", "s_form": "diagonal"}),
    ("whitened_lora", {}),
]


def start(down: Tensor) -> tuple[nn.Parameter, nn.Parameter]:
    up = random_orthonormal(12, 3, seed=1, dtype=F64)
    return nn.Parameter(up), nn.Parameter(down.clone())


def steps(
    optimizer: torch.optim.Optimizer, up: Tensor, down: Tensor, seeds: range
) -> None:
    """Steps with gradients of the product that do not depend on the factors."""
    for seed in seeds:
        generator = torch.Generator().manual_seed(seed)
        gradient = torch.randn(12, 9, generator=generator, dtype=F64)
        up.grad = gradient @ down.detach().mT
        down.grad = up.detach().mT @ gradient
        optimizer.step()


def opened(
    name: str, options: dict[str, Any], down: Tensor
) -> tuple[torch.optim.Optimizer, Pair]:
    up, down = start(down)
    named = [("q.lora_A.weight", down), ("q.lora_B.weight", up)]
    return create_optimizer(name, named, lr=0.0, **options), Pair("q", up, down)


@pytest.mark.parametrize(("name", "options"), ORTHONORMAL)
def test_the_state_is_as_if_a_had_always_been_smaller(
    name: str, options: dict[str, Any]
) -> None:
    c = 0.37
    given = torch.randn(3, 9, generator=torch.Generator().manual_seed(0), dtype=F64)
    if options.get("s_form") == "diagonal":
        given = torch.linalg.svd(given).Vh[:3] * torch.tensor([[3.0], [2.0], [1.0]])
    optimizer, pair = opened(name, options, given)
    steps(optimizer, pair.up, pair.down, range(3))
    before = pair.up.detach().clone()
    scale_products(optimizer, [pair], [c])
    assert torch.equal(pair.up, before)
    other, small = opened(name, options, given * c)
    steps(other, small.up, small.down, range(3))
    for mine, theirs in ((pair.up, small.up), (pair.down, small.down)):
        assert torch.allclose(mine, theirs, atol=1e-12)
        assert optimizer.state[mine].keys() == other.state[theirs].keys()
        for key, value in optimizer.state[mine].items():
            expected = other.state[theirs][key]
            assert torch.allclose(value, expected, rtol=1e-7, atol=1e-12), key
    # Both continue in the same way.
    for one in (optimizer, other):
        one.param_groups[0]["lr"] = 1e-2
    steps(optimizer, pair.up, pair.down, range(3, 6))
    steps(other, small.up, small.down, range(3, 6))
    products = pair.up @ pair.down, small.up @ small.down
    assert torch.allclose(*products, rtol=1e-6, atol=1e-9)


def test_every_method_with_orthonormal_b_is_tested_above() -> None:
    tested = {name for name, _ in ORTHONORMAL}
    for name, entry in CATALOGUE.items():
        if entry.extra:
            continue
        optimizer, _ = opened(name, {}, torch.ones(3, 9, dtype=F64))
        assert (name in tested) == keeps_orthonormal(optimizer)


@pytest.mark.parametrize("name", ["adamw", "lora_rite"])
def test_other_methods_share_the_factor(name: str) -> None:
    given = torch.randn(3, 9, generator=torch.Generator().manual_seed(0), dtype=F64)
    optimizer, pair = opened(name, {}, given)
    steps(optimizer, pair.up, pair.down, range(2))
    up, down = pair.up.detach().clone(), pair.down.detach().clone()
    scale_products(optimizer, [pair], [0.25])
    assert torch.allclose(pair.up, up / 2, rtol=1e-12)
    assert torch.allclose(pair.down, down / 2, rtol=1e-12)


def test_a_bfloat16_pair_is_scaled_in_float32() -> None:
    up, down = start(torch.ones(3, 9, dtype=F64))
    pair = Pair(
        "q", nn.Parameter(up.data.bfloat16()), nn.Parameter(down.data.bfloat16())
    )
    named = [("q.lora_A.weight", pair.down), ("q.lora_B.weight", pair.up)]
    optimizer = create_optimizer("stiefel_lora", named, lr=1e-3)
    pair.up.grad, pair.down.grad = (
        torch.zeros(12, 3).bfloat16(),
        torch.ones(3, 9).bfloat16(),
    )
    optimizer.step()
    master = optimizer.state[pair.down]["master"].clone()
    scale_products(optimizer, [pair], [0.3])
    assert torch.equal(optimizer.state[pair.down]["master"], master * 0.3)
    assert torch.equal(pair.down, (master * 0.3).bfloat16())


def test_norms_are_those_of_the_dense_products() -> None:
    generator = torch.Generator().manual_seed(3)

    def normal(*shape: int) -> Tensor:
        return torch.randn(*shape, generator=generator)

    pairs = [
        Pair("a", normal(20, 4), normal(4, 30)),
        Pair("b", normal(8, 1), normal(1, 5)),
        Pair("zero", torch.zeros(20, 4), normal(4, 30)),
        Pair("conv", normal(6, 3, 1, 1), normal(3, 5, 3, 3)),
        Pair("c", normal(20, 4), normal(4, 30)),
    ]
    dense = [up.double() @ down.double() for up, down in (p.matrices for p in pairs)]
    expected = torch.stack([product.norm() for product in dense])
    assert torch.allclose(product_norms(pairs), expected, rtol=1e-6)
    assert product_norms([]).tolist() == []
