"""SVD and pseudo-inverse with a fallback if LAPACK does not converge.

The divide-and-conquer algorithm of LAPACK (gesdd) can fail for a finite matrix with
nearly equal singular values, depending on the build. Orthogonalized updates (msign)
have such singular values. If it fails, the batch is factored again in float64, and if
that fails, by another algorithm.
"""

from __future__ import annotations

import torch
from torch import Tensor

from .stiefel import qr_gauge

__all__ = ["pseudo_inverse", "thin_svd"]


def thin_svd(matrix: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Compute the thin SVD M = U diag(sigma) V^T of a finite matrix.

    Args:
        matrix: M, ``(*batch, m, n)``, with k = min(m, n).

    Returns:
            U ``(*batch, m, k)``, sigma ``(*batch, k)`` in descending order, and V^T
            ``(*batch, k, n)``.

    Raises:
        torch.linalg.LinAlgError: If M contains NaN.
    """
    try:
        return torch.linalg.svd(matrix, full_matrices=False)
    except torch.linalg.LinAlgError:
        if not matrix.isfinite().all():
            raise
    try:
        found = torch.linalg.svd(matrix.double(), full_matrices=False)
    except torch.linalg.LinAlgError:
        found = _svd_by_gram(matrix.double())
    u, sigma, vh = (part.to(matrix.dtype) for part in found)
    return u, sigma, vh


def pseudo_inverse(matrix: Tensor, rtol: float) -> Tensor:
    """Compute the pseudo-inverse.

    Singular values up to ``rtol`` times the largest one are treated as 0.

    Raises:
        torch.linalg.LinAlgError: If the matrix contains NaN.
    """
    try:
        return torch.linalg.pinv(matrix, rtol=rtol)
    except torch.linalg.LinAlgError:
        u, sigma, vh = thin_svd(matrix)
    kept = sigma > rtol * sigma[..., :1]
    inverse = torch.where(kept, 1 / torch.where(kept, sigma, 1.0), 0.0)
    return (vh.mT * inverse.unsqueeze(-2)) @ u.mT


def _svd_by_gram(matrix: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Compute an SVD from the eigenvectors of M^T M and a QR of M V, in float64.

    The relative error of U diag(sigma) V^T is 1e-8. U and V are orthonormal up to
    rounding for any rank.
    """
    if matrix.shape[-2] < matrix.shape[-1]:
        u, sigma, vh = _svd_by_gram(matrix.mT)
        return vh.mT, sigma, u.mT
    size = matrix.abs().amax((-2, -1), keepdim=True)
    unit = matrix / torch.where(size > 0, size, 1.0)
    v = torch.linalg.eigh(unit.mT @ unit)[1].flip(-1)
    # M V has orthogonal columns, longest first, so that R is diagonal to rounding.
    u, r = qr_gauge(unit @ v)
    sigma, order = torch.diagonal(r, dim1=-2, dim2=-1).abs().sort(-1, descending=True)
    u, v = (part.gather(-1, order.unsqueeze(-2).expand_as(part)) for part in (u, v))
    return u, sigma * size.squeeze(-1), v.mT
