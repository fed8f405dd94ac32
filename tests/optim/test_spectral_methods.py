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
@pytest.mark.parametrize("name", ["lora_muon", "lora_tsd", "polora"])
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
    first = float((product.double() - goal).square().mean())
    for _ in range(8):
        step(optimizer, up, down, product - goal)
        before, product = product, (up @ down).detach()
        assert spectral(product - before) <= 1.2 * lr
    # From a tiny B of full rank most steps are for growing.
    assert float((product.double() - goal).square().mean()) <= first


@settings(max_examples=20, deadline=None)
@given(
    rank=st.integers(1, 6),
    out=st.integers(6, 20),
    into=st.integers(6, 20),
    seed=st.integers(0, 2**16),
    size=st.floats(-3, 3),
)
def test_polora_moves_both_factors_alike_and_the_product_by_at_most_the_rate(
    rank, out, into, seed, size
):
    """Sizes that differ by gauge count, so the balance of the factors is drawn too."""
    up, down = pair(out, into, rank, seed)
    up.data.mul_(10**size)
    optimizer = make("polora", up, down, 1e-2)
    for turn in range(3):
        before = up.detach().clone(), down.detach().clone()
        moved = step(optimizer, up, down, noise(out, into, seed + turn))
        rho = 1e-2 / sum(map(spectral, before))
        assert [*map(spectral, moved)] == pytest.approx([rho, rho], rel=4e-3)
        linear = before[0] @ moved[1] + moved[0] @ before[1]
        assert spectral(linear) <= 1.005e-2


@pytest.mark.parametrize("name", ["polora", "lora_muon", "lora_tsd"])
def test_an_orthogonal_change_of_basis_leaves_the_product_alone(name):
    turn, products = random_orthonormal(4, 4, seed=9, dtype=F64), []
    for basis in (torch.eye(4, dtype=F64), turn):
        up, down = pair(12, 9, 4)
        up.data, down.data = up.data @ basis, basis.mT @ down.data
        optimizer = make(name, up, down, 5e-2)
        for seed in range(5):
            step(optimizer, up, down, noise(12, 9, seed))
        products.append((up @ down).detach())
    gap = torch.linalg.norm(products[0] - products[1])
    assert gap <= 1e-9 * torch.linalg.norm(products[0])


def test_polora_starts_from_zero_by_b_alone():
    up, down = pair(12, 9, 3)
    up.data.zero_()
    before = down.detach().clone()
    moved, still = step(make("polora", up, down, 1e-2), up, down, noise(12, 9))
    assert not still.any()
    assert spectral(moved) == pytest.approx(1e-2 / spectral(before), rel=4e-3)


def test_polora_weighs_an_output_with_large_gradients_less():
    """After a hundred gradients that are ten times as large in one row."""
    up, down = pair(12, 9, 3)
    optimizer = make("polora", up, down, 1e-4)
    for seed in range(100):
        gradient = noise(12, 9, seed)
        gradient[4] *= 10
        step(optimizer, up, down, gradient)
    weights = optimizer.state[up]["curvature_up"]
    assert weights.shape == (12, 1)
    assert int(weights.argmax()) == 4
    assert weights.flatten().sort().values[-2] < 0.1 * weights.max()


@settings(max_examples=20, deadline=None)
@given(
    rank=st.integers(1, 6),
    out=st.integers(6, 20),
    into=st.integers(6, 20),
    seed=st.integers(0, 2**16),
    tau=st.sampled_from([1, 3]),
)
def test_tsd_moves_the_product_by_a_tangent_vector_of_the_rate(
    rank, out, into, seed, tau
):
    """One corner of msign is cut off, which lengthens it to 2 / sqrt(3) at most."""
    up, down = pair(out, into, rank, seed)
    # Balanced factors are not scaled.
    down.data *= torch.linalg.norm(up.data) / torch.linalg.norm(down.data)
    before = up.detach().clone(), down.detach().clone()
    optimizer = make("lora_tsd", up, down, 1e-4, tau=tau)
    moved = step(optimizer, up, down, noise(out, into, seed))
    linear = before[0] @ moved[1] + moved[0] @ before[1]
    assert 0.99e-4 <= spectral(linear) <= 1.01e-4 * 2 / 3**0.5
    left, right = (torch.linalg.qr(t)[0] for t in (before[0], before[1].mT))
    corner = linear - left @ (left.mT @ linear)
    corner = corner - corner @ right @ right.mT
    assert spectral(corner) <= 1e-9 * spectral(linear)


@pytest.mark.parametrize("lr", [1e-2, 10.0])
def test_tsd_moves_no_further_than_the_trust_region(lr):
    up, down = pair(20, 15, 6, sizes=(10.0, 10.0))
    down.data *= torch.linalg.norm(up.data) / torch.linalg.norm(down.data)
    before = up.detach().clone(), down.detach().clone()
    optimizer = make("lora_tsd", up, down, lr, trust_region=2e-2)
    moved = step(optimizer, up, down, noise(20, 15))
    linear = before[0] @ moved[1] + moved[0] @ before[1]
    assert float(torch.linalg.norm(linear)) == pytest.approx(2e-2, rel=1e-3)


@pytest.mark.parametrize("shift", [-9, -5, 0.3, 7])
def test_tsd_balances_the_factors_by_a_power_of_16(shift):
    up, down = pair(20, 15, 6, dtype=torch.float32)
    up.data.mul_(2.0**shift)
    product = (up @ down).detach()
    step(make("lora_tsd", up, down, 0.0), up, down, noise(20, 15))
    assert torch.equal((up @ down).detach(), product)
    ratio = torch.linalg.norm(up.detach()) / torch.linalg.norm(down.detach())
    assert 1 / 16 <= float(ratio) <= 16


@pytest.mark.parametrize("name", ["lora_muon", "lora_tsd", "polora"])
def test_the_product_decays_by_the_rate(name):
    up, down = pair(12, 9, 3)
    before = (up @ down).detach()
    optimizer = make(name, up, down, 1e-2, weight_decay=0.5)
    step(optimizer, up, down, torch.zeros(12, 9))
    torch.testing.assert_close((up @ down).detach(), (1 - 0.5e-2) * before)
