"""Whitened LoRA: no gauge, no step of B beside A = 0, no turn beyond the longest."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from stiefel_lora import create_optimizer
from stiefel_lora.geometry import orthogonality_error, random_orthonormal

F64 = torch.float64


def start(out, into, rank, seed, dtype=F64, size=1.0):
    up = random_orthonormal(out, rank, seed=seed, dtype=F64)
    right = random_orthonormal(into, rank, seed=seed + 1, dtype=F64)
    mix = random_orthonormal(rank, rank, seed=seed + 2, dtype=F64)
    down = size * (mix * torch.linspace(0.5, 2, rank, dtype=F64)) @ right.mT
    return torch.nn.Parameter(up.to(dtype)), torch.nn.Parameter(down.to(dtype))


def run(up, down, steps, lr, rank_of_gradient=None, **options):
    named = [("q.lora_A.weight", down), ("q.lora_B.weight", up)]
    optimizer = create_optimizer("whitened_lora", named, lr=lr, **options)
    generator = torch.Generator().manual_seed(5)
    for _ in range(steps):
        width = rank_of_gradient or up.shape[0]
        left = torch.randn(up.shape[0], width, generator=generator, dtype=F64)
        right = torch.randn(width, down.shape[1], generator=generator, dtype=F64)
        gradient = (left @ right).to(up)
        up.grad = gradient @ down.detach().mT
        down.grad = up.detach().mT @ gradient
        optimizer.step()
    return optimizer


@settings(max_examples=15, deadline=None)
@given(
    rank=st.integers(1, 5),
    out=st.integers(6, 16),
    into=st.integers(6, 16),
    seed=st.integers(0, 2**16),
)
def test_the_product_does_not_depend_on_the_gauge(rank, out, into, seed):
    turn = random_orthonormal(rank, rank, seed=seed + 3, dtype=F64)
    products = []
    for basis in (torch.eye(rank, dtype=F64), turn):
        up, down = start(out, into, rank, seed)
        up.data, down.data = up.data @ basis, basis.mT @ down.data
        run(up, down, 5, 1e-2)
        products.append((up @ down).detach())
    gap = torch.linalg.norm(products[0] - products[1])
    assert gap <= 1e-8 * torch.linalg.norm(products[0])


def test_beside_a_zero_only_a_moves():
    up, down = start(12, 9, 3, 0, size=0.0)
    before = up.detach().clone()
    optimizer = run(up, down, 1, 1e-2)
    assert (up.detach() - before).abs().max() < 1e-14
    assert not optimizer.state[up]["mean_up"].any()
    assert not optimizer.state[up]["square_up"].any()
    # Whitened, the rows of A's first step have the root mean square of the rate.
    rms = down.detach().square().mean(1).sqrt()
    assert rms.tolist() == pytest.approx([1e-2] * 3, rel=1e-2)


@pytest.mark.parametrize("dtype", [torch.float32, F64])
@pytest.mark.parametrize("width", [1, 3, None])
def test_b_turns_by_no_more_than_the_longest_turn(dtype, width):
    up, down = start(48, 32, 8, 1, dtype, size=1e-3)
    optimizer = run(up, down, 3, 1e-1, width, longest_turn=0.2)
    for _ in range(5):
        before = up.detach().clone()
        gradient = torch.randn(48, 32).to(up)
        up.grad, down.grad = gradient @ down.detach().mT, before.mT @ gradient
        optimizer.step()
        least = torch.linalg.svdvals((before.mT @ up.detach()).double())[-1]
        assert float(least) >= (1 + 0.21**2) ** -0.5
        assert orthogonality_error(up.detach()) <= 1e-5
    assert down.isfinite().all()
