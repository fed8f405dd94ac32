from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from manifold_cases import F64, gaussian, seeds, tall_shapes

from stiefel_lora.geometry import (
    inverse_sqrt,
    nearest_orthonormal,
    orthogonality_error,
    polar_core,
    polar_factor,
    random_orthonormal,
    spectral_norm,
)


def with_singular_values(rows: int, values: torch.Tensor, seed: int) -> torch.Tensor:
    columns = len(values)
    left = random_orthonormal(rows, columns, seed=seed, dtype=F64)
    right = random_orthonormal(columns, columns, seed=seed + 1, dtype=F64)
    return (left * values) @ right.mT


@given(st.integers(1, 12), seeds, st.floats(1.0, 100.0), st.floats(-12.0, 12.0))
def test_inverse_sqrt_matches_an_eigendecomposition(size, seed, condition, exponent):
    vectors = random_orthonormal(size, size, seed=seed, dtype=F64)
    values = torch.logspace(0, -1, size, base=condition, dtype=F64) * 10**exponent
    gram = (vectors * values) @ vectors.mT
    expected = (vectors * values.rsqrt()) @ vectors.mT
    found = inverse_sqrt(gram)
    assert (found - expected).norm() < 1e-8 * expected.norm()


def test_inverse_sqrt_near_identity_needs_six_iterations_in_float32():
    # The optimizers' case: eigenvalues in [1, 1.25].
    vectors = random_orthonormal(32, 32, seed=0, dtype=F64)
    values = torch.linspace(1, 1.25, 32, dtype=F64)
    gram = (vectors * values) @ vectors.mT
    expected = (vectors * values.rsqrt()) @ vectors.mT
    found = inverse_sqrt(gram.float(), iterations=6).double()
    assert (found - expected).abs().max() < 2e-6


@given(tall_shapes(), seeds, st.floats(-12.0, 12.0))
def test_polar_factor_matches_the_svd(shape, seed, exponent):
    rows, columns = shape
    values = torch.logspace(0, -2, columns, dtype=F64)
    matrix = with_singular_values(rows, values, seed) * 10**exponent
    u, _, vh = torch.linalg.svd(matrix, full_matrices=False)
    torch.testing.assert_close(polar_factor(matrix), u @ vh, atol=1e-9, rtol=0)
    torch.testing.assert_close(polar_factor(matrix.mT), vh.mT @ u.mT, atol=1e-9, rtol=0)


@pytest.mark.parametrize("condition", [1e1, 1e2, 1e3])
def test_float32_polar_factor_agrees_with_float64(condition):
    values = torch.logspace(0, -1, 16, base=condition, dtype=F64)
    matrix = with_singular_values(200, values, seed=2)
    exact = polar_factor(matrix)
    # The polar factor's own condition number is 1 / sigma_min, so float32 rounding
    # of the input (6e-8) is amplified by the condition.
    tolerance = 2e-6 * condition
    assert (polar_factor(matrix.float()).double() - exact).abs().max() < tolerance


@given(tall_shapes(), seeds, st.integers(0, 8))
def test_polar_factor_never_exceeds_one(shape, seed, digits):
    values = torch.logspace(0, -digits, shape[1], dtype=F64)
    matrix = with_singular_values(shape[0], values, seed).float()
    assert torch.linalg.matrix_norm(polar_factor(matrix), 2) < 1 + 1e-5


def test_polar_factor_of_zero_is_zero():
    assert polar_factor(torch.zeros(2, 8, 3)).abs().max() == 0


@given(st.integers(1, 6), seeds)
def test_polar_factor_of_a_rank_deficient_matrix_keeps_its_range(rank, seed):
    matrix = gaussian(30, rank, seed=seed) @ gaussian(rank, 8, seed=seed + 1)
    values = torch.linalg.svdvals(polar_factor(matrix.float()))
    assert values[0] == pytest.approx(1, abs=1e-4)
    assert values[rank:].max() < 0.2 if rank < 8 else True


@given(tall_shapes(), seeds, st.floats(-12.0, 12.0))
def test_polar_core_of_the_gram_matrix_gives_the_polar_factor(shape, seed, exponent):
    values = torch.logspace(0, -2, shape[1], dtype=F64)
    matrix = with_singular_values(shape[0], values, seed) * 10**exponent
    u, _, vh = torch.linalg.svd(matrix, full_matrices=False)
    found = matrix @ polar_core(matrix.mT @ matrix)
    torch.testing.assert_close(found, u @ vh, atol=1e-9, rtol=0)


@pytest.mark.parametrize(("share", "tolerance"), [(1e-2, 4e-3), (1e-3, 0.25)])
def test_float32_polar_core_resolves_what_is_documented(share, tolerance):
    values = torch.logspace(0, math.log10(share), 16, dtype=F64)
    values = values / values.norm()
    values[-1] = share
    for seed in range(20):
        matrix = with_singular_values(400, values, seed).float()
        found = torch.linalg.svdvals(matrix @ polar_core(matrix.mT @ matrix))
        assert (found - 1).abs().max() < tolerance


def test_polar_core_of_zero_is_finite():
    assert torch.isfinite(polar_core(torch.zeros(2, 3, 3))).all()


@pytest.mark.parametrize("dtype", [torch.float32, F64])
@given(tall_shapes(), seeds, st.floats(0.0, 0.5))
def test_nearest_orthonormal_of_a_bounded_step_is_there_to_rounding(
    dtype, shape, seed, length
):
    # Singular values of B + xi are in [1, sqrt(1.25)], and 0.95 where xi is not quite
    # tangent.
    values = torch.linspace(0.95, (1 + length**2) ** 0.5, shape[1], dtype=F64)
    matrix = with_singular_values(shape[0], values, seed).to(dtype)
    found = nearest_orthonormal(matrix, longest=0.5)
    assert orthogonality_error(found) < 20 * torch.finfo(dtype).eps
    assert (found - polar_factor(matrix)).abs().max() < 2e-6


@given(tall_shapes(), seeds, st.floats(0.0, 1e3), st.floats(-12.0, 12.0))
def test_spectral_norm_error_is_as_documented(shape, seed, crowding, exponent):
    # Crowded just below the largest value is the worst place for the others.
    rows, columns = shape
    values = torch.full((columns,), 1 - crowding / 2**12, dtype=F64).clamp_min(0)
    values[0] = 1
    matrix = with_singular_values(rows, values, seed) * 10**exponent
    share = spectral_norm(matrix).square() / 10 ** (2 * exponent)
    assert 1 - math.log(columns) / 2**10 - 1e-12 <= share <= 1 + 1e-12


def test_spectral_norm_of_zero_is_zero():
    assert spectral_norm(torch.zeros(2, 6, 3)).flatten().tolist() == [0.0, 0.0]


@pytest.mark.parametrize(
    ("share", "tolerance"), [(1e-4, 1e-8), (1e-5, 1e-8), (1e-6, 1e-6)]
)
def test_float64_polar_factor_resolves_what_is_documented(share, tolerance):
    values = torch.tensor([1.0, 0.5, share, share], dtype=F64)
    matrix = with_singular_values(20, values / values.norm(), seed=4)
    found = polar_factor(matrix)
    assert orthogonality_error(found) <= tolerance
    u, _, vh = torch.linalg.svd(matrix, full_matrices=False)
    assert (found - u @ vh).abs().max() <= 1e-6


def test_float64_polar_factor_does_not_amplify_rounding():
    values = torch.tensor([1.0, 0.5, 1e-14], dtype=F64)
    found = polar_factor(with_singular_values(20, values, seed=4))
    assert torch.linalg.svdvals(found)[-1] <= 1e-6
