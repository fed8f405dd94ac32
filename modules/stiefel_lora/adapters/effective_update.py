"""Effective updates of all layers of a model, as products of two factors."""

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
    """Effective updates of all layers of a model."""

    pairs: Sequence[Pair]
    """Pairs whose products, multiplied by alpha / r, are the updates.

    For a plain LoRA, these are the trained pairs. For LOI initialization, they are
    stacked copies of rank 2r, in which the initial product is subtracted. For DoRA,
    they are D B and A.
    """

    magnitude_changes: Sequence[float] = ()
    """Change of each layer by DoRA magnitudes, relative to the norm of its weight."""


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
