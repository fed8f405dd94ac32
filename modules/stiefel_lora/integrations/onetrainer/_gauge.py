"""Make B orthonormal in OneTrainer's layers; the product stays what it was."""

from __future__ import annotations

from collections.abc import Iterable

import torch
from torch import nn

from ...optim.gauge import enter_where_needed
from ...optim.pairs import find_pairs
from ._layers import named_parameters

__all__ = ["enter_gauge"]


@torch.no_grad()
def enter_gauge(layers: Iterable[nn.Module]) -> None:
    """(B, A) := (Q, R A) in place, where B = Q R is not orthonormal.

    Layers below the rank are left alone: they take AdamW.
    """
    pairs = find_pairs(named_parameters(layers)).pairs
    enter_where_needed(pair for pair in pairs if not pair.too_wide)
