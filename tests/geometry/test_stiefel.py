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
    exponential_map,
    orthogonality_error,
    qr_gauge,
    random_orthonormal,
    retract_polar,
    tangent_project,
)


@given(tall_shapes(), seeds)
def test_projection_lands_in_the_tangent_space(shape, seed):
    point, _ = point_and_tangent(*shape, seed)
    tangent = tangent_project(point, gaussian(*shape, seed=seed + 2))
    skew = point.mT @ tangent
    assert (skew + skew.mT).abs().max() < 1e-12


@given(tall_shapes(), seeds)
def test_projection_is_idempotent_and_self_adjoint(shape, seed):
    point, _ = point_and_tangent(*shape, seed)
    x, y = gaussian(*shape, seed=seed + 2), gaussian(*shape, seed=seed + 3)
    px, py = tangent_project(point, x), tangent_project(point, y)
    torch.testing.assert_close(tangent_project(point, px), px, atol=1e-12, rtol=0)
    assert abs((px * y).sum() - (x * py).sum()) < 1e-10


@given(tall_shapes(), seeds, st.floats(0.01, 3.0))
def test_moved_point_has_gram_identity_plus_step_gram(shape, seed, length):
    point, step = point_and_tangent(*shape, seed)
    step = length * step
    moved = point + step
    expected = torch.eye(shape[1], dtype=F64) + step.mT @ step
    torch.testing.assert_close(moved.mT @ moved, expected, atol=1e-12, rtol=1e-12)


@given(tall_shapes(), seeds, st.floats(0.0, 3.0))
def test_retraction_stays_on_the_manifold(shape, seed, length):
    point, step = point_and_tangent(*shape, seed)
    assert orthogonality_error(retract_polar(point, length * step)) < 1e-12


@pytest.mark.parametrize(("rows", "columns"), [(40, 1), (60, 8), (33, 16)])
def test_retraction_is_first_order(rows, columns):
    point, step = point_and_tangent(rows, columns, seed=5)
    lengths = [1e-1, 1e-2, 1e-3, 1e-4]
    errors = [
        float((retract_polar(point, t * step) - point - t * step).norm()) / t
        for t in lengths
    ]
    assert log_slope(errors, lengths) == pytest.approx(1, abs=0.05)


def euclidean_geodesic(point, tangent):
    """Geodesic of the Euclidean metric (Edelman, Arias, Smith 1998, eq. 2.7)."""
    r = point.shape[1]
    a, gram = point.mT @ tangent, tangent.mT @ tangent
    identity = torch.eye(r, dtype=F64)
    block = torch.cat(
        [torch.cat([a, -gram], dim=1), torch.cat([identity, a], dim=1)], dim=0
    )
    flow = torch.linalg.matrix_exp(block)[:, :r]
    both = torch.cat([point, tangent], dim=1)
    return both @ flow @ torch.linalg.matrix_exp(-a)


@pytest.mark.parametrize(("rows", "columns"), [(40, 2), (60, 8), (33, 16)])
def test_polar_retraction_is_second_order(rows, columns):
    # Third-order gap to the geodesic; QR would show slope 2. The shortest step stays
    # where the gap is well above float64 rounding.
    point, step = point_and_tangent(rows, columns, seed=6)
    lengths = [1e-1, 3e-2, 1e-2, 3e-3]
    errors = [
        float(
            (
                retract_polar(point, t * step) - euclidean_geodesic(point, t * step)
            ).norm()
        )
        for t in lengths
    ]
    assert log_slope(errors, lengths) == pytest.approx(3, abs=0.2)


@pytest.mark.parametrize("walk", [retract_polar, exponential_map])
@given(tall_shapes(), seeds)
def test_walks_commute_with_rotations_of_the_columns(walk, shape, seed):
    point, step = point_and_tangent(*shape, seed)
    turn = random_orthonormal(shape[1], shape[1], seed=seed + 4, dtype=F64)
    turned = walk(point @ turn, 0.3 * step @ turn)
    torch.testing.assert_close(
        turned, walk(point, 0.3 * step) @ turn, atol=1e-12, rtol=0
    )


def test_retraction_removes_drift_instead_of_carrying_it_on():
    point, step = point_and_tangent(50, 8, seed=7)
    drifted = (point * 1.01).float()
    assert orthogonality_error(retract_polar(drifted, 0.0 * step.float())) < 1e-6


@given(tall_shapes(), seeds)
def test_qr_gauge_rebuilds_the_matrix_with_positive_diagonal(shape, seed):
    matrix = gaussian(*shape, seed=seed)
    q, r = qr_gauge(matrix)
    torch.testing.assert_close(q @ r, matrix, atol=1e-12, rtol=0)
    assert (torch.diagonal(r) >= 0).all()
    assert orthogonality_error(q) < 1e-12


def test_qr_gauge_keeps_every_column_of_a_rank_deficient_matrix():
    q, _ = qr_gauge(torch.zeros(6, 3, dtype=F64))
    assert orthogonality_error(q) < 1e-12


def test_random_point_depends_on_the_seed_alone():
    first = random_orthonormal(20, 4, seed=3)
    torch.testing.assert_close(first, random_orthonormal(20, 4, seed=3), rtol=0, atol=0)
    assert (first - random_orthonormal(20, 4, seed=4)).abs().max() > 0.1


def test_more_columns_than_rows_are_refused():
    with pytest.raises(
        ValueError, match="Cannot create 5 orthonormal columns with only 4"
    ):
        random_orthonormal(4, 5, seed=0)


def test_a_batch_equals_its_items():
    points = torch.stack(
        [random_orthonormal(9, 3, seed=i, dtype=F64) for i in range(4)]
    )
    vectors = gaussian(4, 9, 3, seed=1)
    together = retract_polar(points, 0.1 * tangent_project(points, vectors))
    for i in range(4):
        alone = retract_polar(points[i], 0.1 * tangent_project(points[i], vectors[i]))
        torch.testing.assert_close(together[i], alone, atol=1e-14, rtol=0)
