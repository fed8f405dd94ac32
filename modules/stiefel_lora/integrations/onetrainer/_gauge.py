"""Orthonormalization of B in layers of OneTrainer without changing the product."""

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
    """Replace (B, A) by (Q, R A) in place if B = Q R is not orthonormal.

    Layers smaller than the rank are not changed, because they are trained with AdamW.
    """
    pairs = find_pairs(named_parameters(layers)).pairs
    enter_where_needed(pair for pair in pairs if not pair.too_wide)
