"""The step of the product where gradients or A lack directions, beside a dense one."""

from __future__ import annotations

import pytest
import torch
from reference.linear_algebra import msign
from test_product_step import F64, Run, point

from stiefel_lora.geometry import orthogonality_error, random_orthonormal


def dense_step(up, down, gradient, lr):
    """One step without momentum, with SVDs of m x n matrices instead of Gram matrices.

    Like the method, it damps A where its singular values are below lr / 3.
    """
    identity = torch.eye(up.shape[1], dtype=F64)
    inside = up @ up.mT
    inverse = torch.linalg.inv(down @ down.mT + (lr / 3) ** 2 * identity)
    outside = gradient - inside @ gradient
    tangent = outside @ down.mT @ inverse @ down + inside @ gradient
    # What A's inverse makes of the rounding errors of the gradient is no direction.
    polar = msign(tangent, floor=1e-7)
    left = (polar - inside @ polar) @ down.mT @ inverse
    turn = lr * left
    values, vectors = torch.linalg.eigh(identity + turn.mT @ turn)
    new = (up - turn) @ (vectors / values.sqrt()) @ vectors.mT
    return new, new.mT @ (up @ down - lr * (left @ down + inside @ polar))


def gradient_of_rank(rank, rows, width, seed):
    generator = torch.Generator().manual_seed(seed)
    draw = [torch.randn(n, rank, generator=generator, dtype=F64) for n in (rows, width)]
    left, right = (torch.linalg.qr(part).Q for part in draw)
    return 1e-4 * left @ right.mT


@pytest.mark.parametrize(("dtype", "most"), [(F64, 1e-8), (torch.float32, 0.05)])
@pytest.mark.parametrize("size", [1.0, 1e-2, 1e-3])
@pytest.mark.parametrize(("rank", "of_gradient"), [(4, 1), (16, 4), (64, 8), (64, 24)])
def test_a_gradient_of_low_rank_turns_b_as_far_as_a_dense_step(
    rank, of_gradient, size, dtype, most
):
    # X has null directions. Their rounding errors must not shorten the others.
    start = point(200, 160, rank, sizes=(size, 0.3 * size), dtype=dtype)
    up, down = (part.to(F64) for part in start)
    up = torch.linalg.qr(up).Q @ torch.linalg.qr(up).R.diagonal().sign().diag()
    gradient = gradient_of_rank(of_gradient, 200, 160, seed=rank)
    new, expected = dense_step(up, down, gradient, 1e-2)
    run = Run(*start, 1e-2, momentum=0.0).take(gradient.to(dtype))
    assert orthogonality_error(run.up.detach()) < 10 * torch.finfo(dtype).eps
    before = start[0].to(F64) @ start[1].to(F64)
    wanted, found = new @ expected - up @ down, run.product_in_float64() - before
    assert torch.linalg.norm(found - wanted) <= most * torch.linalg.norm(wanted)
    turned = [
        torch.linalg.norm(b - up @ (up.mT @ b)) for b in (run.up.detach().to(F64), new)
    ]
    assert abs(float(turned[0] / turned[1]) - 1) <= most


@pytest.mark.parametrize("thin", [1e-6, 1e-8, 1e-10])
@pytest.mark.parametrize(("rank", "lr"), [(2, 0.1), (5, 0.1), (8, 1e-4)])
def test_a_thin_a_gives_the_same_product_in_every_gauge(rank, lr, thin):
    # Rounding errors of X^T X must not be multiplied by the inverse of A, which reaches
    # 1e5 here. Those of A A^T are, once: 1e-3 lr remains.
    up, down = point(30, 24, rank, rank, sizes=(1.0, thin))
    turn = random_orthonormal(rank, rank, seed=3, dtype=F64)
    runs = [Run(up, down, lr), Run(up @ turn, turn.mT @ down, lr)]
    generator = torch.Generator().manual_seed(1)
    for step in range(6):
        gradient = torch.randn(30, 24, generator=generator, dtype=F64) * 10.0**-step
        one, other = (run.take(gradient).product for run in runs)
        assert torch.linalg.matrix_norm(one - other, 2) <= 1e-2 * lr


@pytest.mark.parametrize(
    ("shape", "of_gradient"), [((30, 24, 5), 1), ((90, 80, 16), 4)]
)
@pytest.mark.parametrize("lr", [1e-4, 1e-5])
def test_a_thin_a_and_a_gradient_of_low_rank_turn_b_as_far_as_a_dense_step(
    shape, of_gradient, lr
):
    # What is left of the rounding errors in null directions is multiplied by 1 / lr.
    rows, width, rank = shape
    up, down = point(rows, width, rank, sizes=(1.0, lr))
    gradient = gradient_of_rank(of_gradient, rows, width, seed=rank)
    turn = random_orthonormal(rank, rank, seed=3, dtype=F64)
    runs = [Run(up, down, lr), Run(up @ turn, turn.mT @ down, lr)]
    one, other = (run.take(gradient) for run in runs)
    # The momentum of the first step is the gradient.
    new, expected = dense_step(up, down, gradient, lr)
    wanted, found = new @ expected - up @ down, one.product - up @ down
    assert torch.linalg.norm(found - wanted) <= 1e-2 * torch.linalg.norm(wanted)
    # Before, 0.5 lr.
    assert torch.linalg.matrix_norm(one.product - other.product, 2) <= 1e-3 * lr


@pytest.mark.parametrize("step", ["product", "factors"])
@pytest.mark.parametrize(("rows", "rank"), [(18432, 2), (18432, 4), (20011, 8)])
def test_a_tall_b_of_small_rank_stays_orthonormal(rows, rank, step):
    """Products of matrices with few columns are summed row after row on CPUs."""
    seen = random_orthonormal(rows, 1, seed=6)
    up = random_orthonormal(rows, rank, seed=1)
    run = Run(up, torch.zeros(rank, 16), 2e-2, momentum=0.6, step=step)
    target = 0.1 * torch.randn(1, 16, generator=torch.Generator().manual_seed(1))
    for _ in range(60):
        error = seen.mT @ run.up.detach() @ run.down.detach() - target
        run.up.grad = 1e-4 * seen @ (error @ run.down.detach().mT)
        run.down.grad = 1e-4 * run.up.detach().mT @ seen @ error
        run.optimizer.step()
        assert run.down.isfinite().all()
        assert orthogonality_error(run.up.detach().double()) <= 1e-6
