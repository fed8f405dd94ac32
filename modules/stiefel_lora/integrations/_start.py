"""Initialization of LoRA layers that were created by another trainer."""

from __future__ import annotations

from collections.abc import Iterable

from torch import nn

from ..methods import Method
from ..optim.init import STARTS
from ..optim.pairs import Pair, find_pairs

__all__ = ["start_layers"]

Named = Iterable[tuple[str, nn.Parameter]]


def start_layers(named: Named, method: Method, seed: int) -> list[Pair]:
    """Initialize the pairs among named parameters for a method, in place.

    Layers smaller than the rank are not initialized, because they are trained with
    AdamW.

    Returns:
        The initialized pairs.
    """
    named = list(named)
    pairs = find_pairs(named).pairs
    wide = {id(p) for pair in pairs if pair.too_wide for p in (pair.up, pair.down)}
    if len(wide) == 2 * len(pairs):
        return []
    return STARTS[method.start]([(n, p) for n, p in named if id(p) not in wide], seed)
