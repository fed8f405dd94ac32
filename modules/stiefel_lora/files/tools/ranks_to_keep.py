"""Choose a rank for every layer, by rank, error, energy or size.

Dropping singular values costs their squares, so that the error of a choice is known
before anything is computed. Every layer keeps a rank of at least 1.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from ..._exceptions import OptionError

__all__ = ["capped", "ranks_by_error", "ranks_by_size", "ranks_by_total_error"]


def ranks_by_error(spectra: Sequence[Tensor], error: float) -> list[int]:
    """Smallest ranks whose relative error is at most ``error`` in each layer.

    Args:
        spectra: singular values of each layer, largest first.
        error: Frobenius norm of the loss over that of the layer.
    """
    found = []
    for values in spectra:
        # lost[k]: squared error of rank k.
        lost = values.square().flip(0).cumsum(0).flip(0)
        allowed = error**2 * float(lost[0])
        found.append(max(1, int((lost > allowed).sum())))
    return found


def ranks_by_total_error(spectra: Sequence[Tensor], error: float) -> list[int]:
    """Smallest sum of ranks whose relative error over all layers is at most ``error``.

    The largest singular values of all layers together are kept.
    """
    squares, owner = _candidates(spectra)
    # Smallest first: that many can go.
    order = squares.argsort(stable=True)
    allowed = error**2 * float(sum(values.square().sum() for values in spectra))
    gone = int((squares[order].cumsum(0) <= allowed).sum())
    kept = torch.ones(len(squares), dtype=torch.bool)
    kept[order[:gone]] = False
    return _counted(owner[kept], len(spectra))


def ranks_by_size(
    spectra: Sequence[Tensor], costs: Sequence[int], budget: int
) -> list[int]:
    """Ranks that keep most energy in ``budget`` bytes.

    Singular values are taken in the order of energy for each byte, until the next one
    does not fit.

    Args:
        spectra: singular values of each layer, largest first.
        costs: bytes of one rank of each layer.
        budget: bytes for all factors.

    Raises:
        OptionError: even rank 1 in all layers does not fit.
    """
    least = sum(costs)
    if least > budget:
        raise OptionError(
            f"--size: even rank 1 in all {len(costs)} layers takes "
            f"{(least - budget) / 1e6:.2f} MB more. Choose a larger size."
        )
    squares, owner = _candidates(spectra)
    price = torch.tensor(costs, dtype=torch.float64)[owner]
    order = (squares / price).argsort(descending=True, stable=True)
    fits = price[order].cumsum(0) <= budget - least
    return _counted(owner[order[fits]], len(spectra))


def capped(ranks: Sequence[int], limit: int | None) -> list[int]:
    """At most ``limit`` each."""
    return [rank if limit is None else min(rank, limit) for rank in ranks]


def _candidates(spectra: Sequence[Tensor]) -> tuple[Tensor, Tensor]:
    """Squares of all singular values but the first of each layer, and their layers."""
    squares = torch.cat([values[1:].square() for values in spectra])
    counts = torch.tensor([len(values) - 1 for values in spectra])
    owner = torch.repeat_interleave(torch.arange(len(spectra)), counts)
    return squares.double(), owner


def _counted(owner: Tensor, layers: int) -> list[int]:
    """Rank of each layer: its first singular value and those that were chosen."""
    return [1 + n for n in torch.bincount(owner, minlength=layers).tolist()]
