"""What every layer of a model moves by, as a product of two factors."""

from __future__ import annotations

from collections.abc import Iterable

from torch import nn

from ..optim.pairs import Pair
from .dora import magnitude_of, scale_rows
from .offset import has_offset, stack_offset

__all__ = ["moved_pairs"]


def moved_pairs(model: nn.Module, pairs: Iterable[Pair]) -> list[Pair]:
    """Pairs whose product, times alpha / r, is what each layer moves by.

    A plain LoRA gives the trained pairs themselves; a start from the gradient stacked
    copies of rank 2r, with the start taken away; a DoRA the part with a rank, D B A.
    """
    return [_moved(model, pair) for pair in pairs]


def _moved(model: nn.Module, pair: Pair) -> Pair:
    if has_offset(model, pair.name):
        return stack_offset(model, pair)
    if magnitude_of(model, pair) is not None:
        return scale_rows(model, pair)
    return pair
