r"""Projections and retractions of the Stiefel manifold St(m, r) = {B : B^T B = I}.

The metric is Euclidean. Points and vectors are ``(*batch, m, r)`` tensors with m >= r.
A vector xi is tangent at B if :math:`B^T\xi + \xi^T B = 0`. Then
:math:`(B+\xi)^T(B+\xi) = I + \xi^T\xi`, so B + xi always has full rank.

References:
    P.-A. Absil, R. Mahony, R. Sepulchre, "Optimization Algorithms on Matrix
    Manifolds", Princeton 2008, sections 3.5.7, 4.1.1.
"""

from __future__ import annotations

import torch
from torch import Tensor

from .gram import cross_gram, gram_of
from .roots import inverse_sqrt

__all__ = [
    "canonical_gradient",
    "exponential_map",
    "nearest_orthonormal",
    "orthogonality_error",
    "qr_gauge",
    "random_orthonormal",
    "retract_polar",
    "retract_qr",
    "symmetric",
    "tangent_project",
]


def symmetric(matrix: Tensor) -> Tensor:
    """Compute the symmetric part (M + M^T) / 2 of ``(*batch, r, r)``."""
    return 0.5 * (matrix + matrix.mT)


def tangent_project(point: Tensor, vector: Tensor) -> Tensor:
    r"""Project a matrix onto the tangent space: Z - B sym(B^T Z)."""
    core = symmetric(cross_gram(point, vector))
    parts = [part.reshape(-1, *part.shape[-2:]) for part in (vector, point, core)]
    return torch.baddbmm(*parts, alpha=-1).view(vector.shape)


def retract_polar(point: Tensor, step: Tensor) -> Tensor:
    r"""Polar retraction :math:`(B+\xi)\,[(B+\xi)^T(B+\xi)]^{-1/2}`, of second order.

    The Gram matrix of B + xi is used instead of I + xi^T xi, so that deviations of B
    from orthonormality are corrected.

    Args:
        point: ``(*batch, m, r)``, orthonormal columns.
        step: ``(*batch, m, r)``, tangent at ``point``.
    """
    return nearest_orthonormal(point + step)


def nearest_orthonormal(moved: Tensor, longest: float | None = None) -> Tensor:
    r"""Compute the polar factor :math:`Y (Y^T Y)^{-1/2}` of Y = B + xi.

    Args:
        moved: Y, ``(*batch, m, r)``.
        longest: upper bound of the spectral norm of xi, at most 0.5. The eigenvalues of
            Y^T Y are then in [1, 1 + longest^2], and 4 iterations (5 in float64) are
            used, which converge for [0.9, 1.35], so that xi may deviate from the
            tangent space by a few percent. If None, 12 iterations (14 in float64) are
            used.
    """
    gram = gram_of(moved)
    if longest is None:
        return moved @ inverse_sqrt(gram)
    # K = I + xi^T xi has no eigenvalue below 1, so the center of the interval is known
    # without reading K, and a third of the iterations is enough.
    iterations = 5 if moved.dtype == torch.float64 else 4
    return moved @ inverse_sqrt(gram, iterations, center=1 + longest**2 / 2)


def retract_qr(point: Tensor, step: Tensor) -> Tensor:
    """QR retraction qf(B + xi), of first order. Depends on the basis of B."""
    return qr_gauge(point + step)[0]


def canonical_gradient(point: Tensor, gradient: Tensor) -> Tensor:
    r"""Compute the gradient in the canonical metric: :math:`G - B\,G^T B`."""
    return gradient - point @ (gradient.mT @ point)


def exponential_map(point: Tensor, step: Tensor) -> Tensor:
    r"""Compute the end point of a geodesic in the canonical metric.

    With :math:`QR = \xi - B B^T\xi`, the point is :math:`B M + Q N`, where
    :math:`[M; N] = \exp([[B^T\xi, -R^T], [R, 0]])\,[I; 0]`. One Newton-Schulz step
    removes rounding errors.

    Args:
        point: ``(*batch, m, r)``, orthonormal columns.
        step: ``(*batch, m, r)``, tangent at ``point``.

    References:
        A. Edelman, T. Arias, S. Smith, "The Geometry of Algorithms with Orthogonality
        Constraints", 1998, section 2.4.2.
    """
    rank = point.shape[-1]
    along = cross_gram(point, step)
    along = 0.5 * (along - along.mT)
    # No QR: with W = Q R and T = diag(I, R / |W|) the curve [B, Q] exp(K) [I; 0] is
    # [B, W / |W|] exp(T^-1 K T) [I; 0], which holds R^T R = W^T W and no inverse.
    outside = step - point @ cross_gram(point, step)
    size = torch.linalg.matrix_norm(outside, keepdim=True)
    outside = outside / size.clamp_min(torch.finfo(step.dtype).tiny)
    identity = torch.eye(rank, dtype=point.dtype, device=point.device)
    top = torch.cat([along, -size * gram_of(outside)], dim=-1)
    bottom = torch.cat([size * identity, torch.zeros_like(along)], dim=-1)
    curve = torch.linalg.matrix_exp(torch.cat([top, bottom], dim=-2))[..., :rank]
    moved = point @ curve[..., :rank, :] + outside @ curve[..., rank:, :]
    return 1.5 * moved - 0.5 * moved @ gram_of(moved)


def orthogonality_error(point: Tensor) -> Tensor:
    r"""Compute the largest entry of |B^T B - I| of each matrix ``(*batch, m, r)``."""
    gram = gram_of(point)
    identity = torch.eye(gram.shape[-1], dtype=gram.dtype, device=gram.device)
    return (gram - identity).abs().amax(dim=(-2, -1))


def qr_gauge(matrix: Tensor) -> tuple[Tensor, Tensor]:
    """Compute the thin QR with a positive diagonal: M = Q R."""
    q, r = torch.linalg.qr(matrix)
    diagonal = torch.diagonal(r, dim1=-2, dim2=-1)
    # torch.sign(0) = 0 would delete a column of a rank-deficient matrix.
    sign = torch.where(diagonal < 0, -1.0, 1.0).to(matrix.dtype)
    return q * sign.unsqueeze(-2), r * sign.unsqueeze(-1)


def random_orthonormal(
    rows: int, columns: int, *, seed: int, dtype: torch.dtype = torch.float32
) -> Tensor:
    """Draw a uniformly random matrix with orthonormal columns, in float64 on the CPU.

    The result depends only on the seed, not on the device or the dtype.

    Raises:
        ValueError: If there are more columns than rows.
    """
    if columns > rows:
        raise ValueError(
            f"Cannot create {columns} orthonormal columns with only {rows} rows. "
            "The rank must not exceed the output width of the layer."
        )
    generator = torch.Generator().manual_seed(seed)
    gauss = torch.randn(rows, columns, generator=generator, dtype=torch.float64)
    return qr_gauge(gauss)[0].to(dtype)
