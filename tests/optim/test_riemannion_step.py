"""Riemannion by products: hard gradients, no SVD, states of the first version."""

from __future__ import annotations

import copy

import pytest
import torch

from stiefel_lora import create_optimizer
from stiefel_lora.geometry import orthogonality_error, random_orthonormal
from stiefel_lora.optim.riemannion import tiny_right_factor

F64 = torch.float64
OUT, WIDTH = 40, 32


def start(rank, size=None, seed=0, dtype=torch.float32):
    """B and A of one pair; without a size, the tiny start of a training run."""
    up = random_orthonormal(OUT, rank, seed=seed, dtype=dtype)
    down = tiny_right_factor("x", rank, WIDTH)
    if size is not None:
        down = size * random_orthonormal(WIDTH, rank, seed=~seed).mT
    return [torch.nn.Parameter(t.to(dtype).contiguous()) for t in (up, down)]


def optimizer_of(pair, **options):
    named = list(zip(["x.lora_B", "x.lora_A"], pair, strict=True))
    return create_optimizer("riemannion", named, **{"lr": 3e-2, **options})


def goal(rank, seed=0, dtype=torch.float32):
    generator = torch.Generator().manual_seed(seed)
    left = torch.randn(OUT, rank, generator=generator, dtype=dtype)
    return left @ torch.randn(rank, WIDTH, generator=generator, dtype=dtype)


def train(pair, optimizer, target, steps, scale=1.0):
    up, down = pair
    for _ in range(steps):
        error = (up @ down).detach() - target
        up.grad = scale * error @ down.detach().mT
        down.grad = scale * up.detach().mT @ error
        optimizer.step()
    return (up @ down).detach()


@pytest.mark.parametrize("size", [None, 1e-4, 1.0])
@pytest.mark.parametrize("rank", [4, 16, 32])
@pytest.mark.parametrize("of_gradient", [1, 3, 20])
def test_gradients_of_low_rank_leave_b_orthonormal(size, rank, of_gradient):
    """Directions without a gradient have no tall vector that could enter B."""
    pair = start(rank, size)
    optimizer = optimizer_of(pair)
    target = goal(of_gradient)
    before = (pair[0] @ pair[1]).detach()
    for _ in range(20):
        after = train(pair, optimizer, target, 1)
        assert orthogonality_error(pair[0].detach()) <= 1e-5
        step = torch.linalg.matrix_norm((after - before).double(), 2)
        # D is a projection of msign, and truncation to rank r may add as much.
        assert step <= 1.5 * 3e-2
        before = after


@pytest.mark.parametrize("scale", [1e-25, 1e-12, 1e8])
def test_the_size_of_gradients_does_not_matter(scale):
    found = []
    for size in (1.0, scale):
        pair = start(4, 1.0)
        found.append(train(pair, optimizer_of(pair), goal(8), 10, size))
    torch.testing.assert_close(*found, rtol=0, atol=1e-4)


@pytest.mark.parametrize("rank", [8, 32])
def test_a_step_needs_no_svd(rank, monkeypatch):
    """``linalg.svd: failed to converge`` ended runs at rank 64."""

    def svd(*args, **options):
        raise torch.linalg.LinAlgError("linalg.svd: failed to converge")

    monkeypatch.setattr(torch.linalg, "svd", svd)
    pair = start(rank)
    # At this rate all singular values of the product stay nearly equal.
    product = train(pair, optimizer_of(pair, lr=10.0), goal(20), 10)
    assert product.isfinite().all()


@pytest.mark.parametrize("form", ["raw", "orthogonal"])
@pytest.mark.parametrize("dtype", [torch.float32, F64])
def test_a_state_of_the_first_version_continues(form, dtype):
    """It held X_L, X_R and the frames of the point, in any basis of that point."""
    target = goal(8, dtype=dtype)
    pair = start(4, 1.0, dtype=dtype)
    optimizer = optimizer_of(pair, momentum_form=form)
    train(pair, optimizer, target, 5)
    saved = copy.deepcopy(optimizer.state_dict())
    up, down = (factor.detach().double() for factor in pair)
    moment_up, moment_down = (
        saved["state"][index].pop(name).double()
        for index, name in ((0, "momentum_up"), (1, "momentum_down"))
    )
    # xi = X_L R^T + B M_A with M_B = X_L R^T A^T.
    turn = random_orthonormal(4, 4, seed=5, dtype=F64)
    right = turn @ torch.linalg.qr(down.mT)[0].mT
    x_left = moment_up @ torch.linalg.inv(right @ down.mT)
    other = random_orthonormal(4, 4, seed=6, dtype=F64)
    old = {"momentum_left": x_left, "frame_left": up @ other}
    saved["state"][0] |= {name: value.to(dtype) for name, value in old.items()}
    old = {"momentum_right": other.mT @ moment_down, "frame_right": right}
    saved["state"][1] |= {name: value.to(dtype) for name, value in old.items()}

    again = [torch.nn.Parameter(factor.detach().clone()) for factor in pair]
    loaded = optimizer_of(again, momentum_form=form)
    loaded.load_state_dict(saved)
    wanted = train(pair, optimizer, target, 5)
    found = train(again, loaded, target, 5)
    atol = 1e-5 if dtype == torch.float32 else 1e-12
    torch.testing.assert_close(found, wanted, rtol=0, atol=atol)
    assert not any("frame" in name for held in loaded.state.values() for name in held)
