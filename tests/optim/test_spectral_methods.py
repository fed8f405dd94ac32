"""Methods that bound the spectral norm of a product's step: sizes, bounds, starts."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from stiefel_lora import create_optimizer
from stiefel_lora.geometry import random_orthonormal

F64 = torch.float64


def spectral(matrix):
    return float(torch.linalg.matrix_norm(matrix.double(), 2))


def pair(out, into, rank, seed=0, sizes=(1.0, 1.0), dtype=F64):
    """Oblique factors; sizes are those of the product's singular values."""
    left = random_orthonormal(out, rank, seed=seed, dtype=F64)
    right = random_orthonormal(into, rank, seed=seed + 1, dtype=F64)
    turn = random_orthonormal(rank, rank, seed=seed + 2, dtype=F64)
    ends = torch.tensor(sizes, dtype=F64).log10()
    sigma = torch.logspace(float(ends[0]), float(ends[1]), rank, dtype=F64)
    mix = turn * torch.linspace(0.5, 2.0, rank, dtype=F64)
    up = left * sigma.sqrt() @ mix
    down = torch.linalg.inv(mix) @ (sigma.sqrt()[:, None] * right.mT)
    return torch.nn.Parameter(up.to(dtype)), torch.nn.Parameter(down.to(dtype))


def make(name, up, down, lr, **options):
    named = [("q.lora_A.weight", down), ("q.lora_B.weight", up)]
    return create_optimizer(name, named, lr=lr, **options)


def step(optimizer, up, down, gradient):
    """Take a step by the gradient of the product; return the moves of B and A."""
    before = up.detach().clone(), down.detach().clone()
    up.grad = gradient.to(up) @ before[1].mT
    down.grad = before[0].mT @ gradient.to(up)
    optimizer.step()
    return up.detach() - before[0], down.detach() - before[1]


def noise(out, into, seed=3):
    return torch.randn(
        out, into, generator=torch.Generator().manual_seed(seed), dtype=F64
    )


@settings(max_examples=20, deadline=None)
@given(
    rank=st.integers(1, 6),
    out=st.integers(6, 20),
    into=st.integers(6, 20),
    seed=st.integers(0, 2**16),
)
def test_muon_moves_the_product_by_half_the_rate_with_each_factor(
    rank, out, into, seed
):
    up, down = pair(out, into, rank, seed)
    old_up, old_down = up.detach().clone(), down.detach().clone()
    lr = 1e-5
    moved_up, moved_down = step(
        make("lora_muon", up, down, lr), up, down, noise(out, into, seed)
    )
    for part in (moved_up @ old_down, old_up @ moved_down):
        sigma = torch.linalg.svdvals(part)[:rank]
        # All directions alike, but for those that msign does not resolve.
        assert float(sigma[0]) == pytest.approx(lr / 2, rel=1e-6)
        assert float(sigma[rank // 2]) == pytest.approx(lr / 2, rel=1e-3)


@pytest.mark.parametrize("growth", [0.25, 1.0])
@pytest.mark.parametrize("dtype", [torch.float32, F64])
def test_muon_changes_no_direction_by_more_than_its_growth(growth, dtype):
    """The product holds from a hundredth of a step to a hundred steps."""
    lr = 1e-2
    up, down = pair(24, 16, 5, sizes=(1.0, 1e-4), dtype=dtype)
    grams = up.detach().mT @ up.detach(), down.detach() @ down.detach().mT
    optimizer = make("lora_muon", up, down, lr, growth=growth)
    moved_up, moved_down = step(optimizer, up, down, noise(24, 16))
    moves = moved_up.mT @ moved_up, moved_down @ moved_down.mT
    for move, gram in zip(moves, grams, strict=True):
        ratio = torch.linalg.eigvals(torch.linalg.solve(gram.double(), move.double()))
        assert float(ratio.real.max()) ** 0.5 <= 1.02 * growth
    assert spectral(moved_up @ moved_down) <= 1.02 * growth * lr / 4


@pytest.mark.parametrize("start", ["B = 0", "A = 0", "tiny B"])
@pytest.mark.parametrize("rank", [8, 64, 96])
@pytest.mark.parametrize("name", ["lora_muon"])
def test_no_step_is_longer_than_the_rate_after_gradients_of_low_rank(name, rank, start):
    """A first gradient of rank 4 leaves the other directions of a factor at 0."""
    torch.manual_seed(0)
    lr, up, down = 1e-2, torch.zeros(96, rank), torch.randn(rank, 96) / 96**0.5
    if start == "A = 0":
        up, down = down.mT.contiguous(), up.mT.contiguous()
    if start == "tiny B":
        up = 1e-7 * torch.randn(96, rank)
    up, down = torch.nn.Parameter(up), torch.nn.Parameter(down)
    optimizer = make(name, up, down, lr)
    goal = torch.randn(96, 4) @ torch.randn(4, 96)
    product = (up @ down).detach()
    first = float((product - goal).square().mean())
    for _ in range(8):
        step(optimizer, up, down, product - goal)
        before, product = product, (up @ down).detach()
        assert spectral(product - before) <= 1.2 * lr
    assert float((product - goal).square().mean()) < first


def test_muon_decays_the_product_by_the_rate():
    up, down = pair(12, 9, 3)
    before = (up @ down).detach()
    optimizer = make("lora_muon", up, down, 1e-2, weight_decay=0.5)
    step(optimizer, up, down, torch.zeros(12, 9))
    torch.testing.assert_close((up @ down).detach(), (1 - 0.5e-2) * before)
