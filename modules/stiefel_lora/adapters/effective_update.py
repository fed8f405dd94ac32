"""Effective update of every layer of a model as a product of two factors."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Sequence

from torch import nn

from ..optim.pairs import Pair
from .dora_layers import magnitude_of, split_move
from .offset import has_offset, stack_offset

__all__ = ["EffectiveUpdate", "effective_update"]


@dataclasses.dataclass(frozen=True)
class EffectiveUpdate:
    """Effective updates of the layers of a model."""

    pairs: Sequence[Pair]
    """Pairs whose products, times alpha / r, are the updates.

    For a plain LoRA, these are the trained pairs; for a start from the gradient,
    stacked copies of rank 2r with the start subtracted; for a DoRA, the low-rank part D
    B A.
    """

    magnitude_changes: Sequence[float] = ()
    """Update of each layer by DoRA magnitudes, as a fraction of its weight's norm."""


def effective_update(model: nn.Module, pairs: Iterable[Pair]) -> EffectiveUpdate:
    """Compute the current update of every layer."""
    moved, changes = [], []
    for pair in pairs:
        if has_offset(model, pair):
            moved.append(stack_offset(model, pair))
        elif magnitude_of(model, pair) is not None:
            ranked, change = split_move(model, pair)
            moved.append(ranked)
            changes.append(change)
        else:
            moved.append(pair)
    return EffectiveUpdate(moved, changes)
