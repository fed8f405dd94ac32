"""Make B orthonormal in OneTrainer's layers; the product stays what it was."""

from __future__ import annotations

from collections.abc import Iterable

import torch
from torch import nn

from ...optim.gauge import needs_gauge, orthonormal_start, stiefel_gauge
from ...optim.pairs import find_pairs
from ._layers import named_parameters

__all__ = ["enter_gauge"]


@torch.no_grad()
def enter_gauge(layers: Iterable[nn.Module]) -> None:
    """(B, A) := (Q, R A) in place, where B = Q R is not orthonormal."""
    for pair in find_pairs(named_parameters(layers)).pairs:
        if pair.too_wide or not needs_gauge(pair.up):
            continue
        if pair.up.any():
            stiefel_gauge(pair.up, pair.down)
        else:
            orthonormal_start(pair.up, pair.down, pair.name)
