r"""Singular values of a product B A from its factors, and measures of its rank.

The product is not computed. With :math:`B^T B = L L^T`, the squares of
:math:`\sigma(BA)` are the eigenvalues of the r x r matrix :math:`L^T (A A^T) L`.
Columns of B are first scaled to length 1, and rows of A are multiplied by the old
lengths, which improves the accuracy. Gram matrices contain squares of singular values
and are therefore computed in float64: in float32, singular values below :math:`\sigma_1
/ 3000` would be lost. float32 is sufficient if the columns of a factor are far from
parallel: let :math:`C` be the Gram matrix of its columns, scaled to length 1. An error
E of C changes every singular value of the product by a factor of at most :math:`1 +
\|E\| / 2\lambda_{\min}(C)` (see :func:`gram_matrices`). Definitions, with :math:`p_i =
\sigma_i / \sum_j \sigma_j`:

===============  ==============================================================
effective rank   :math:`\exp(-\sum_i p_i \ln p_i)` (Roy and Vetterli 2007)
stable rank      :math:`\sum_i \sigma_i^2 / \sigma_1^2`
k95              smallest k with :math:`\sum_{i\le k}\sigma_i \ge 0.95\sum_i\sigma_i`
===============  ==============================================================
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

import torch
from torch import Tensor

from ._precision import full_precision
from .gram import gram_of

__all__ = [
    "RankSummary",
    "effective_rank",
    "gram_matrices",
    "product_singular_values",
    "product_spectrum",
    "spectrum_summary",
]


@dataclasses.dataclass(frozen=True)
class RankSummary:
    """Rank measures of a batch of spectra. Every field has the batch shape."""

    effective: Tensor
    stable: Tensor
    k95: Tensor


# Relative to sigma_1. Float32 factors carry no information below their rounding.
_RESOLUTION = 5e-7
# Least eigenvalue of C for which float32 suffices: with errors of 1e-7 to 1e-6 in C,
# singular values are accurate to 1e-5.
_APART = 0.05
# Columns of this squared length or more have products that float32 does not round to 0.
_SHORTEST = 1e-28


def product_singular_values(up: Tensor, down: Tensor) -> Tensor:
    """Compute the singular values of B A in descending order.

    Values below 5e-7 times the largest one are set to 0.

    Args:
        up: B, ``(*batch, out, r)``, any float dtype.
        down: A, ``(*batch, r, in)``.

    Returns:
        ``(*batch, r)``, float64 on the CPU. NaN for pairs with NaN or infinity in a
        factor.
    """
    return product_spectrum(_gram(up), _gram(down.mT))


def product_spectrum(left: Tensor, right: Tensor) -> Tensor:
    """Compute the singular values of B A from float64 B^T B and A A^T on the CPU."""
    # Of the sums: an entry that is not finite makes them so, or too large to be used.
    sums = left.sum((-2, -1)) + right.sum((-2, -1))
    bad = ~sums.isfinite().unsqueeze(-1)
    if bool(bad.any()):
        left, right = (torch.where(bad[..., None], 0.0, gram) for gram in (left, right))
    length = torch.diagonal(left, dim1=-2, dim2=-1).sqrt()
    share = torch.where(length > 0, 1 / length, 0.0)
    # In place after the first product: new memory costs more than the arithmetic.
    left = (left * share.unsqueeze(-1)).mul_(share.unsqueeze(-2))
    right = (right * length.unsqueeze(-1)).mul_(length.unsqueeze(-2))
    trace = torch.diagonal(left, dim1=-2, dim2=-1).sum(-1)[..., None, None]
    identity = torch.eye(left.shape[-1], dtype=left.dtype)
    # Rounding can leave the Gram matrix of a rank-deficient B slightly indefinite;
    # the shift is far below _RESOLUTION. B = 0 gets I here and its zero back below.
    shift = torch.where(trace > 0, 4e-15 * trace, 1.0)
    root = torch.linalg.cholesky_ex(left.add_(shift * identity)).L
    squares = torch.linalg.eigvalsh(root.mT @ right @ root).flip(-1).clamp_min(0)
    values = squares.sqrt() * (trace[..., 0] > 0)
    values = torch.where(values < _RESOLUTION * values[..., :1], 0.0, values)
    return torch.where(bad, torch.nan, values)


def gram_matrices(columns: Sequence[Tensor]) -> Tensor:
    """Compute the Gram matrices of factors, accurate enough for singular values.

    They are computed in float32 if the error is bounded as in the docstring of this
    module, which is checked by a Cholesky factorization, and otherwise in float64.

    Args:
        columns: K stacks ``(k_i, m_i, r)`` on any devices.

    Returns:
        ``(sum k_i, r, r)`` float64 on the CPU.
    """
    quick = torch.cat([_quick_gram(stack) for stack in columns])
    found = quick.double()
    squares = torch.diagonal(quick, dim1=-2, dim2=-1)
    usable = quick.sum((-2, -1)).isfinite() & (squares > _SHORTEST).all(-1)
    # Where lengths are not usable, 0 in their place: LAPACK gets no NaN.
    inverse = torch.where(usable.unsqueeze(-1), squares.rsqrt(), 0.0)
    unit = (quick * inverse.unsqueeze(-1)).mul_(inverse.unsqueeze(-2))
    if not bool(usable.all()):
        unit[~usable] = 0.0
    torch.diagonal(unit, dim1=-2, dim2=-1).sub_(_APART)
    apart = torch.linalg.cholesky_ex(unit).info == 0
    flat = [matrix for stack in columns for matrix in stack.unbind()]
    for index in torch.nonzero(~apart).flatten().tolist():
        found[index] = _gram(flat[index])
    return found


def _quick_gram(stack: Tensor) -> Tensor:
    """Compute M^T M on the CPU, in float32, or float64 for float64 factors."""
    wide = stack if stack.dtype == torch.float64 else stack.float()
    with full_precision(stack.device.type):
        return gram_of(wide).cpu()


def _gram(tall: Tensor) -> Tensor:
    """Compute M^T M of ``(*batch, m, r)`` in float64 on the CPU."""
    # Devices without float64 (MPS) copy the factor instead of its small Gram matrix.
    device = tall.device if tall.device.type in ("cpu", "cuda") else "cpu"
    wide = tall.to(device, torch.float64)
    return (wide.mT @ wide).cpu()


def spectrum_summary(values: Tensor) -> RankSummary:
    """Compute the effective rank, stable rank and k95 of spectra ``(*batch, r)``.

    If a spectrum contains NaN, both ranks are NaN and k95 is 0.
    """
    total = values.sum(-1)
    # NaN counts as nonzero, so that it is propagated.
    alive = total != 0
    share = values / torch.where(alive, total, 1.0).unsqueeze(-1)
    entropy = -torch.special.xlogy(share, share).sum(-1)
    largest = values.amax(-1)
    stable = (values / torch.where(alive, largest, 1.0).unsqueeze(-1)).square().sum(-1)
    reached = share.sort(-1, descending=True).values.cumsum(-1)
    # The last sum is 1 up to rounding; the slack keeps a flat spectrum at 0.95 r.
    k95 = (reached < 0.95 - 1e-12).sum(-1) + 1
    return RankSummary(
        effective=torch.where(alive, entropy.exp(), 0.0),
        stable=torch.where(alive, stable, 0.0),
        k95=torch.where(total > 0, k95, 0),
    )


@torch.no_grad()
def effective_rank(up: Tensor, down: Tensor) -> Tensor:
    """Compute the effective rank of B A, between 1 and r. It is 0 for a zero product.

    Args:
        up: B, ``(*batch, out, r)``, or ``(out, r, 1, 1)`` of a convolution.
        down: A, ``(*batch, r, in)`` or ``(r, in, k, k)``.
    """
    if up.dim() == 4 and down.dim() == 4 and up.shape[-2:] == (1, 1):
        up, down = up.flatten(1), down.flatten(1)
    return spectrum_summary(product_singular_values(up, down)).effective
