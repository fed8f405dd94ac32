"""What every layer of a model moves by, as a product of two factors."""

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
    """What the layers of a model move by."""

    pairs: Sequence[Pair]
    """Their products, times alpha / r, are the moves.

    A plain LoRA has the trained pairs themselves; a start from the gradient stacked
    copies of rank 2r, with the start taken away; a DoRA the part with a rank, D B A.
    """

    magnitude_changes: Sequence[float] = ()
    """What a DoRA moves each layer by beside that, as a share of its weight."""


def effective_update(model: nn.Module, pairs: Iterable[Pair]) -> EffectiveUpdate:
    """Look at every layer as it is now."""
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
