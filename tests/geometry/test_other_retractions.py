"""QR retraction, exponential map and gradient of the canonical metric."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from manifold_cases import (
    F64,
    gaussian,
    log_slope,
    point_and_tangent,
    seeds,
    tall_shapes,
)

from stiefel_lora.geometry import (
    canonical_gradient,
    exponential_map,
    orthogonality_error,
    random_orthonormal,
    retract_qr,
)

SHAPES = pytest.mark.parametrize(("rows", "columns"), [(40, 2), (60, 8), (33, 16)])


def canonical_geodesic(point, tangent):
    """exp(P D Y^T - Y D^T P) Y with P = I - Y Y^T / 2, as an m x m exponential."""
    half = tangent - 0.5 * point @ (point.mT @ tangent)
    generator = half @ point.mT
    return torch.linalg.matrix_exp(generator - generator.mT) @ point


@given(tall_shapes(), seeds, st.floats(0.0, 3.0))
def test_they_stay_on_the_manifold(shape, seed, length):
    point, step = point_and_tangent(*shape, seed)
    for walk in (retract_qr, exponential_map):
        assert orthogonality_error(walk(point, length * step)) < 1e-12


@given(tall_shapes(), seeds, st.floats(0.0, 3.0))
def test_exponential_map_is_the_geodesic_of_the_canonical_metric(shape, seed, length):
    point, step = point_and_tangent(*shape, seed)
    found = exponential_map(point, length * step)
    expected = canonical_geodesic(point, length * step)
    torch.testing.assert_close(found, expected, atol=1e-11, rtol=0)


@SHAPES
def test_t5_the_qr_retraction_depends_on_the_basis(rows, columns):
    point, step = point_and_tangent(rows, columns, seed=7)
    turn = random_orthonormal(columns, columns, seed=8, dtype=F64)
    turned = retract_qr(point @ turn, 0.5 * step @ turn)
    assert (turned - retract_qr(point, 0.5 * step) @ turn).abs().max() > 1e-3


@SHAPES
def test_t4_the_qr_retraction_is_of_first_order(rows, columns):
    # The gap to a geodesic falls with the square of the step, to both geodesics: they
    # part from each other only at the second order, as QR does from either.
    point, step = point_and_tangent(rows, columns, seed=6)
    lengths = [1e-1, 3e-2, 1e-2, 3e-3]
    gaps = [
        float(
            (retract_qr(point, t * step) - canonical_geodesic(point, t * step)).norm()
        )
        for t in lengths
    ]
    assert log_slope(gaps, lengths) == pytest.approx(2, abs=0.2)


@given(tall_shapes(), seeds)
def test_canonical_gradient_represents_the_derivative(shape, seed):
    point, step = point_and_tangent(*shape, seed)
    gradient = gaussian(*shape, seed=seed + 2)
    found = canonical_gradient(point, gradient)
    skew = point.mT @ found
    assert (skew + skew.mT).abs().max() < 1e-12
    metric = found - 0.5 * point @ (point.mT @ found)
    assert abs((metric * step).sum() - (gradient * step).sum()) < 1e-10
