r"""Best LoRA approximation of a dense update by a truncated SVD.

B is orthonormal and :math:`A = B^T \Delta W`. The error is computed from the product.

Reference:
    N. Halko, P.-G. Martinsson, J. Tropp, "Finding structure with randomness", SIAM
    Review 53, 2011 (randomized SVD with power iterations).
"""

from __future__ import annotations

import dataclasses

import torch
from torch import Tensor

from ..._exceptions import OptionError
from ..weights import LoraFactors

__all__ = ["Nearest", "Rank", "nearest_lora"]

_OVERSAMPLED = 16
_POWER_ITERATIONS = 3
# Rank / smaller side below which a randomized SVD is faster.
_RANDOM_BELOW = 0.25


@dataclasses.dataclass(frozen=True)
class Rank:
    """Target rank of a LoRA, or target relative error of each layer.

    Raises:
        OptionError: If neither or both are set, or a value is out of range.
    """

    rank: int | None = None
    error: float | None = None
    exact: bool = False
    """Whether to always compute the full SVD instead of a randomized SVD."""

    def __post_init__(self) -> None:
        if self.rank is None and self.error is None:
            raise OptionError("Either --rank or --error is required.")
        if self.rank is not None and self.rank < 1:
            raise OptionError(f"--rank: must be at least 1, but got {self.rank}.")
        if self.error is not None and not 0 <= self.error < 1:
            raise OptionError(
                f"--error: must be between 0 and 1, but got {self.error:g}."
            )


@dataclasses.dataclass(frozen=True, eq=False)
class Nearest:
    """LoRA of a layer with its approximation error."""

    factors: LoraFactors
    norm: float
    """Frobenius norm of the update."""

    lost: float
    """Frobenius norm of the difference between the update and the LoRA."""


def nearest_lora(update: Tensor, goal: Rank, *, seed: int = 0) -> Nearest:
    """Compute the best LoRA approximation of an update, with alpha = rank.

    Args:
        update: update of a layer, (out, in) or (out, in, k, k).
        goal: rank or maximum relative error.
        seed: seed of the randomized SVD.
    """
    matrix = update.flatten(1)
    norm = float(matrix.double().norm())
    full = min(matrix.shape)
    rank = full if goal.rank is None else min(goal.rank, full)
    few = goal.error is None and not goal.exact and rank < _RANDOM_BELOW * full
    up = _range(matrix, rank, seed) if few else _left(matrix)
    down = up.mT @ matrix
    if goal.error is not None:
        # Rows of A are as long as the singular values, since B is orthonormal. The
        # slack lets an error of 0 be reached in spite of rounding.
        energy = down.double().square().sum(1).cumsum(0)
        enough = energy >= (1 - goal.error**2) * norm**2 - 1e-12 * norm**2
        needed = int((~enough).sum()) + 1
        rank = min(rank, needed)
    up, down = up[:, :rank], down[:rank]
    lost = float((matrix - up @ down).double().norm())
    ones = [1] * (update.ndim - 2)
    factors = LoraFactors(
        up.reshape(-1, rank, *ones), down.reshape(rank, *update.shape[1:]), float(rank)
    )
    return Nearest(factors, norm, lost)


def _left(matrix: Tensor) -> Tensor:
    """Compute all left singular vectors in descending order of singular values."""
    u, _, _ = torch.linalg.svd(matrix.double(), full_matrices=False)
    return u.to(matrix.dtype)


def _range(matrix: Tensor, rank: int, seed: int) -> Tensor:
    """Compute the leading left singular vectors with a randomized SVD."""
    generator = torch.Generator(matrix.device).manual_seed(seed)
    columns = min(rank + _OVERSAMPLED, *matrix.shape)
    shape = (matrix.shape[1], columns)
    start = torch.randn(shape, generator=generator, dtype=matrix.dtype)
    # Subspace iteration (Halko, Martinsson, Tropp 2011, algorithm 4.4): without a QR
    # after each product, small directions would drown in the rounding of large ones.
    basis = torch.linalg.qr(matrix @ start).Q
    for _ in range(_POWER_ITERATIONS):
        back = torch.linalg.qr(matrix.mT @ basis).Q
        basis = torch.linalg.qr(matrix @ back).Q
    u, _, _ = torch.linalg.svd(basis.mT @ matrix, full_matrices=False)
    return basis @ u[:, :rank]
