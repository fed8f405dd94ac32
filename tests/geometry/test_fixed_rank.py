"""The tangent space of rank-r matrices in factors, against dense algebra (T12)."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from stiefel_lora.geometry import (
    factored_msign,
    project_factored,
    random_orthonormal,
    truncate_factored,
)

sizes = st.tuples(st.integers(1, 12), st.integers(1, 12), st.integers(1, 5))
seeds = st.integers(0, 2**16)
F64 = torch.float64


def frames(rows, columns, rank, seed):
    rank = min(rank, rows, columns)
    left = random_orthonormal(rows, rank, seed=seed, dtype=F64)
    return left, random_orthonormal(columns, rank, seed=seed + 1, dtype=F64)


def dense_projection(left, right, z):
    p_left, p_right = left @ left.T, right @ right.T
    return p_left @ z + z @ p_right - p_left @ z @ p_right


def random(*shape, seed):
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(*shape, generator=generator, dtype=F64)


@given(sizes, st.integers(1, 6), seeds)
def test_projection_equals_the_dense_one_and_is_idempotent(size, k, seed):
    rows, columns, _ = size
    left, right = frames(*size, seed)
    p, q = random(rows, k, seed=seed), random(columns, k, seed=seed + 2)
    x_left, x_right = project_factored(left, right, p, q)
    vector = x_left @ right.T + left @ x_right.T
    dense = dense_projection(left, right, p @ q.T)
    scale = 1 + torch.linalg.norm(dense)
    assert torch.linalg.norm(vector - dense) <= 1e-12 * scale
    assert torch.linalg.norm(left.T @ x_left) <= 1e-12 * scale
    again = dense_projection(left, right, vector)
    assert torch.linalg.norm(again - vector) <= 1e-12 * scale


@given(sizes, seeds)
def test_projection_is_self_adjoint(size, seed):
    rows, columns, _ = size
    left, right = frames(*size, seed)
    one, other = (random(rows, columns, seed=seed + i) for i in (3, 4))
    forth = (dense_projection(left, right, one) * other).sum()
    back = (one * dense_projection(left, right, other)).sum()
    assert abs(forth - back) <= 1e-12 * (1 + abs(forth)) * rows * columns


@given(sizes, seeds)
def test_projection_of_a_gradient_needs_factor_gradients_only(size, seed):
    """P_T(G) from G_B = G A^T and G_A = B^T G (equation 0.6)."""
    rows, columns, _ = size
    left, right = frames(*size, seed)
    rank = left.shape[1]
    up = left @ (random(rank, rank, seed=seed) + 3 * torch.eye(rank, dtype=F64))
    down = (
        random(rank, rank, seed=seed + 1) + 3 * torch.eye(rank, dtype=F64)
    ) @ right.T
    g = random(rows, columns, seed=seed + 2)
    g_up, g_down = g @ down.T, up.T @ g
    over_up = up @ torch.linalg.inv(up.T @ up)
    over_down = torch.linalg.inv(down @ down.T) @ down
    from_factors = (
        over_up @ g_down + g_up @ over_down - over_up @ (g_down @ down.T) @ over_down
    )
    dense = dense_projection(left, right, g)
    condition = float(torch.linalg.cond(up) * torch.linalg.cond(down)) ** 2
    error = torch.linalg.norm(from_factors - dense)
    assert error <= 1e-13 * condition * (1 + torch.linalg.norm(g))


@given(sizes, seeds)
def test_truncation_is_the_best_approximation(size, seed):
    rows, columns, rank = size
    k = min(rank + 1, rows, columns)
    p, q = random(rows, k, seed=seed), random(columns, k, seed=seed + 1)
    rank = min(rank, k)
    u, sigma, v = truncate_factored(p, q, rank)
    full = torch.linalg.svd(p @ q.T, full_matrices=False)
    best = full.U[:, :rank] @ torch.diag(full.S[:rank]) @ full.Vh[:rank]
    scale = full.S[0]
    assert torch.linalg.norm((u * sigma) @ v.T - best) <= 1e-10 * scale
    assert (sigma - full.S[:rank]).abs().max() <= 1e-12 * scale


def test_msign_in_factors_is_msign():
    p, q = random(3, 9, 4, seed=0), random(3, 7, 4, seed=1)
    left, right = factored_msign(p, q)
    u, s, vh = torch.linalg.svd(p @ q.mT, full_matrices=False)
    kept = (s > 1e-9).to(F64)
    expected = u @ torch.diag_embed(kept) @ vh
    assert (left @ right.mT - expected).abs().max() <= 1e-9


@pytest.mark.parametrize("size", [1e-3, 1.0, 1e19, 1e30])
def test_msign_does_not_depend_on_the_size(size):
    p, q = random(3, 9, 4, seed=0).float(), random(3, 7, 4, seed=1).float()
    left, right = factored_msign(p, q)
    other, same = factored_msign(size * p, q)
    assert (left @ right.mT - other @ same.mT).abs().max() <= 1e-5
