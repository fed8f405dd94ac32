r"""Operations on the manifold of m x n matrices of rank r, in factored form.

A matrix is stored as :math:`P Q^T` with P ``(*batch, m, k)`` and Q ``(*batch, n, k)``.
The m x n matrix is not computed. At :math:`X = L Y^T` with orthonormal L and R = qf(Y),
a tangent vector is a pair :math:`(\dot X_L, \dot X_R)` with :math:`\xi = \dot X_L R^T +
L \dot X_R^T` and :math:`L^T \dot X_L = 0`.

References:
    B. Vandereycken, "Low-Rank Matrix Completion by Riemannian Optimization", 2013,
    section 2.
    "Riemannion", 2025, arXiv:2507.12142 (ProjectLR, OrthoLR, RetractionLR).
"""

from __future__ import annotations

import torch
from torch import Tensor

from .factorizations import thin_svd
from .roots import polar_factor

__all__ = ["factored_msign", "project_factored", "truncate_factored"]


def project_factored(
    left: Tensor, right: Tensor, p: Tensor, q: Tensor
) -> tuple[Tensor, Tensor]:
    r"""Project :math:`P Q^T` onto the tangent space at (L, R).

    Args:
        left: L, ``(*batch, m, r)``, orthonormal.
        right: R, ``(*batch, n, r)``, orthonormal.
        p: ``(*batch, m, k)``.
        q: ``(*batch, n, k)``.

    Returns:
        :math:`(I - L L^T) P (Q^T R)` and :math:`Q (P^T L)`.
    """
    moved = p @ (q.mT @ right)
    return moved - left @ (left.mT @ moved), q @ (p.mT @ left)


def factored_msign(p: Tensor, q: Tensor) -> tuple[Tensor, Tensor]:
    r"""Compute factors of :math:`\mathrm{msign}(P Q^T)` from P and Q."""
    left, core, right = _core(p, q)
    return left @ polar_factor(_not_above_one(core)), right


def truncate_factored(p: Tensor, q: Tensor, rank: int) -> tuple[Tensor, Tensor, Tensor]:
    r"""Compute the best rank-r approximation of :math:`P Q^T` as U, sigma and V.

    Columns of U and V are orthonormal, even if singular values are 0.
    """
    # This is the SVD of a k x k matrix: the frames of P and Q contain all tall parts.
    left, core, right = _core(p, q)
    u, sigma, vh = thin_svd(core)
    u, v = left @ u[..., :rank], right @ vh.mT[..., :rank]
    return u, sigma[..., :rank], v


def _not_above_one(matrix: Tensor) -> Tensor:
    """Divide by a power of 2 so that squares of entries do not overflow."""
    exponent = torch.frexp(matrix.abs().amax((-2, -1), keepdim=True)).exponent
    return torch.ldexp(matrix, -exponent.clamp(0, 126))


def _core(p: Tensor, q: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Factor P Q^T = Q_L core Q_R^T by two thin QR decompositions."""
    left, upper_left = torch.linalg.qr(p)
    right, upper_right = torch.linalg.qr(q)
    return left, upper_left @ upper_right.mT, right
