r"""Singular values of a product B A from its factors, and ranks derived from them.

The product is never formed. With :math:`B^T B = L L^T` the squares of
:math:`\sigma(BA)` are the eigenvalues of :math:`L^T (A A^T) L`, an r x r problem.
Columns of B are first scaled to length 1 and the rows of A by their old lengths, so
that lengths that cancel each other cost no accuracy. Gram matrices square the singular
values, so they are computed in float64: float32 ones lose a collapsed rank beyond
:math:`\sigma_1/\sigma_i = 3000`, float64 ones keep everything that float32 factors can
represent. Where the columns of a factor are far from parallel, float32 suffices: if
:math:`C` is its Gram matrix with columns of length 1, an error E of C changes every
singular value of the product by the factor :math:`1 + \|E\| / 2\lambda_{\min}(C)` at
most, the small ones too (:func:`gram_matrices`). Definitions with
:math:`p_i = \sigma_i / \sum_j \sigma_j`:

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
    """Ranks of a batch of spectra. Every field has the batch shape."""

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
    """Compute the singular values of B A, largest first (below 5e-7 sigma_1: 0).

    Args:
        up: B, ``(*batch, out, r)``, any float dtype.
        down: A, ``(*batch, r, in)``.

    Returns:
        ``(*batch, r)`` float64 on the CPU; NaN where a factor is not finite, without
        affecting the rest of the batch.
    """
    return product_spectrum(_gram(up), _gram(down.mT))


def product_spectrum(left: Tensor, right: Tensor) -> Tensor:
    """Compute the singular values of B A from float64 B^T B and A A^T on the CPU."""
    bad = ~(left.isfinite() & right.isfinite()).all(-1).all(-1, keepdim=True)
    left, right = (torch.where(bad[..., None], 0.0, gram) for gram in (left, right))
    length = torch.diagonal(left, dim1=-2, dim2=-1).sqrt()
    share = torch.where(length > 0, 1 / length, 0.0)
    left = left * share.unsqueeze(-1) * share.unsqueeze(-2)
    right = right * length.unsqueeze(-1) * length.unsqueeze(-2)
    trace = torch.diagonal(left, dim1=-2, dim2=-1).sum(-1)[..., None, None]
    identity = torch.eye(left.shape[-1], dtype=left.dtype)
    # Rounding can leave the Gram matrix of a rank-deficient B slightly indefinite;
    # the shift is far below _RESOLUTION. B = 0 gets I here and its zero back below.
    shift = torch.where(trace > 0, 4e-15 * trace, 1.0)
    root = torch.linalg.cholesky_ex(left + shift * identity).L
    squares = torch.linalg.eigvalsh(root.mT @ right @ root).flip(-1).clamp_min(0)
    values = squares.sqrt() * (trace[..., 0] > 0)
    values = torch.where(values < _RESOLUTION * values[..., :1], 0.0, values)
    return torch.where(bad, torch.nan, values)


def gram_matrices(columns: Sequence[Tensor]) -> Tensor:
    """Compute M^T M as accurately as singular values of products need it.

    In float32 where its error is bounded as in the module's docstring, which one
    Cholesky factorization of r x r matrices decides; otherwise in float64.

    Args:
        columns: K stacks ``(k_i, m_i, r)`` on any devices.

    Returns:
        ``(sum k_i, r, r)`` float64 on the CPU.
    """
    found = torch.cat([_quick_gram(stack) for stack in columns])
    squares = torch.diagonal(found, dim1=-2, dim2=-1)
    size = squares.sqrt()
    unit = found / size.unsqueeze(-1) / size.unsqueeze(-2)
    identity = torch.eye(found.shape[-1], dtype=found.dtype)
    usable = found.isfinite().all(-1).all(-1) & (squares > _SHORTEST).all(-1)
    # Not finite: LAPACK would raise an error.
    unit = torch.where(usable[:, None, None], unit, 0.0)
    apart = torch.linalg.cholesky_ex(unit - _APART * identity).info == 0
    flat = [matrix for stack in columns for matrix in stack.unbind()]
    for index in torch.nonzero(~apart).flatten().tolist():
        found[index] = _gram(flat[index])
    return found


def _quick_gram(stack: Tensor) -> Tensor:
    """M^T M in float32, or float64 for such factors, as float64 on the CPU."""
    wide = stack if stack.dtype == torch.float64 else stack.float()
    with full_precision(stack.device.type):
        return (wide.mT @ wide).to("cpu", torch.float64)


def _gram(tall: Tensor) -> Tensor:
    """float64 M^T M of ``(*batch, m, r)``, on the CPU."""
    # Devices without float64 (MPS) copy the factor instead of its small Gram matrix.
    device = tall.device if tall.device.type in ("cpu", "cuda") else "cpu"
    wide = tall.to(device, torch.float64)
    return (wide.mT @ wide).cpu()


def spectrum_summary(values: Tensor) -> RankSummary:
    """Compute the effective rank, stable rank and k95 of spectra ``(*batch, r)``.

    A spectrum of NaN has NaN for both ranks, and k95 = 0.
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
    """Compute the entropy rank of B A, between 1 and r (0 for a zero product).

    Args:
        up: B, ``(*batch, out, r)``. The ``(out, r, 1, 1)`` of a convolution is
            flattened.
        down: A, ``(*batch, r, in)`` or ``(r, in, k, k)``.
    """
    if up.dim() == 4 and down.dim() == 4 and up.shape[-2:] == (1, 1):
        up, down = up.flatten(1), down.flatten(1)
    return spectrum_summary(product_singular_values(up, down)).effective
