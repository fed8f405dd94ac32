"""Selection of the rank of every layer by rank, error, energy or size.

The squared error is the sum of the squares of removed singular values. The rank of
every layer is at least 1.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from ..._exceptions import OptionError

__all__ = ["capped", "ranks_by_error", "ranks_by_size", "ranks_by_total_error"]


def ranks_by_error(spectra: Sequence[Tensor], error: float) -> list[int]:
    """Find the smallest ranks with a relative error of at most ``error`` per layer.

    Args:
        spectra: singular values of each layer in descending order.
        error: maximum relative error in the Frobenius norm.
    """
    found = []
    for values in spectra:
        # lost[k]: squared error of rank k.
        lost = values.square().flip(0).cumsum(0).flip(0)
        allowed = error**2 * float(lost[0])
        found.append(max(1, int((lost > allowed).sum())))
    return found


def ranks_by_total_error(
    spectra: Sequence[Tensor], error: float, limit: int | None = None
) -> list[int]:
    """Find the smallest ranks whose total relative error is at most ``error``.

    The largest singular values of all layers are kept.

    Args:
        spectra: singular values of each layer in descending order.
        error: maximum total relative error.
        limit: maximum rank. The error of layers that it reduces is part of the total.
    """
    squares, owner = _candidates(spectra, limit)
    # Sorted ascending: count how many can be dropped.
    order = squares.argsort(stable=True)
    allowed = error**2 * float(sum(values.square().sum() for values in spectra))
    if limit is not None:
        allowed -= float(sum(values[limit:].square().sum() for values in spectra))
    gone = int((squares[order].cumsum(0) <= allowed).sum())
    kept = torch.ones(len(squares), dtype=torch.bool)
    kept[order[:gone]] = False
    return _counted(owner[kept], len(spectra))


def ranks_by_size(
    spectra: Sequence[Tensor],
    costs: Sequence[int],
    budget: int,
    limit: int | None = None,
) -> list[int]:
    """Find the ranks with the largest energy for a maximum size.

    Singular values are added in order of energy per byte. Those that would exceed the
    size are skipped.

    Args:
        spectra: singular values of each layer in descending order.
        costs: size of one rank of each layer in bytes.
        budget: maximum size of all factors in bytes.
        limit: maximum rank.

    Raises:
        OptionError: If the size is exceeded with rank 1 in all layers.
    """
    least = sum(costs)
    if least > budget:
        raise OptionError(
            f"--size: rank 1 in {_all(len(costs))} already requires "
            f"{_megabytes(least - budget)} more. Use a larger size."
        )
    squares, owner = _candidates(spectra, limit)
    price = torch.tensor(costs, dtype=torch.float64)[owner]
    order = (squares / price).argsort(descending=True, stable=True)
    ranks, left = [1] * len(costs), budget - least
    # All ranks of a layer have one price. If one does not fit, later ones do not
    # either, so the chosen ones are the largest.
    for layer in owner[order].tolist():
        if costs[layer] <= left:
            ranks[layer] += 1
            left -= costs[layer]
    return ranks


def _all(layers: int) -> str:
    return "the layer" if layers == 1 else f"all {layers} layers"


def _megabytes(size: int) -> str:
    """Format a size with two decimals, or two digits if it is smaller."""
    value = size / 1e6
    return f"{value:.2f} MB" if value >= 0.1 else f"{value:.2g} MB"


def capped(ranks: Sequence[int], limit: int | None) -> list[int]:
    """Limit each rank to ``limit``."""
    return [rank if limit is None else min(rank, limit) for rank in ranks]


def _candidates(spectra: Sequence[Tensor], limit: int | None) -> tuple[Tensor, Tensor]:
    """Return the squared singular values after the first of each layer, to a limit."""
    parts = [values[1:limit].square() for values in spectra]
    squares = torch.cat(parts)
    counts = torch.tensor([len(part) for part in parts])
    owner = torch.repeat_interleave(torch.arange(len(spectra)), counts)
    return squares.double(), owner


def _counted(owner: Tensor, layers: int) -> list[int]:
    """Return the ranks: the number of selected values of each layer, plus 1."""
    return [1 + n for n in torch.bincount(owner, minlength=layers).tolist()]
