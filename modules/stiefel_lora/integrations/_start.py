"""The start of the LoRA layers that a host has made."""

from __future__ import annotations

from collections.abc import Iterable

from torch import nn

from ..methods import Method
from ..optim.init import STARTS
from ..optim.pairs import Pair, find_pairs

__all__ = ["start_layers"]

Named = Iterable[tuple[str, nn.Parameter]]


def start_layers(named: Named, method: Method, seed: int) -> list[Pair]:
    """Start the pairs among named parameters as a method needs it, in place.

    Layers below the rank are left as the host started them: they take AdamW. Where all
    are, nothing is done.

    Returns:
        The pairs that were started.
    """
    named = list(named)
    pairs = find_pairs(named).pairs
    wide = {id(p) for pair in pairs if pair.too_wide for p in (pair.up, pair.down)}
    if len(wide) == 2 * len(pairs):
        return []
    return STARTS[method.start]([(n, p) for n, p in named if id(p) not in wide], seed)
