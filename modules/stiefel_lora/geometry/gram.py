"""Products M^T N of tall matrices, with the precision of their entries.

On CPUs, torch sums products of matrices with fewer than 12 columns one row after the
other. At 20,000 rows, float32 errors are 5e-6 of the trace, and Gram matrices that
should be positive semidefinite have eigenvalues of -1e-6 of it. In blocks of 64 rows,
errors are below 1e-7 at any height, like those of matrices with more columns. Where
columns are contiguous, they are below 1e-6 at 150,000 rows without blocks.
"""

from __future__ import annotations

from torch import Tensor

__all__ = ["cross_gram", "gram_of"]

# Columns from which torch sums in blocks itself.
_WIDE = 12
_BLOCK = 64


def gram_of(matrix: Tensor) -> Tensor:
    """Compute M^T M of ``(*batch, m, r)``, as ``(*batch, r, r)``."""
    return cross_gram(matrix, matrix)


def cross_gram(first: Tensor, second: Tensor) -> Tensor:
    """Compute M^T N of ``(*batch, m, r)`` and ``(*batch, m, s)``.

    Returns:
        ``(*batch, r, s)``.
    """
    height, width = first.shape[-2], min(first.shape[-1], second.shape[-1])
    # GPUs sum in blocks anyway, and CPUs in vectors if several columns are contiguous.
    vectors = first.stride(-2) == 1 and width > 1
    if first.device.type != "cpu" or width >= _WIDE or vectors or height < 2 * _BLOCK:
        return first.mT @ second
    whole = height - height % _BLOCK
    one, other = (
        part[..., :whole, :].unflatten(-2, (-1, _BLOCK)) for part in (first, second)
    )
    found = (one.mT @ other).sum(-3)
    if whole < height:
        found = found + first[..., whole:, :].mT @ second[..., whole:, :]
    return found
