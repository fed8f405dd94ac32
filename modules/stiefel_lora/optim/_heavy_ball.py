"""Heavy-ball momentum of a factor, with and without Nesterov's look ahead."""

from __future__ import annotations

import torch
from torch import Tensor

from .factor_rule import FactorBatch, Number

__all__ = ["ahead", "heavy_ball"]


def heavy_ball(batch: FactorBatch, name: str) -> Tensor:
    """Replace the state called ``name``, m <- mu m + g, and return it."""
    before = batch.state[name]
    batch.state[name] = _sum(batch.grad, before, batch.numbers["momentum"])
    return batch.state[name]


def ahead(batch: FactorBatch, name: str) -> Tensor:
    """U: the momentum, or with Nesterov one momentum step ahead of it."""
    momentum = batch.state[name]
    if not batch.choices["nesterov"]:
        return momentum
    return _sum(batch.grad, momentum, batch.numbers["momentum"])


def _sum(one: Tensor, other: Tensor, factor: Number) -> Tensor:
    """Add a multiple, in one pass over memory."""
    if isinstance(factor, Tensor):
        return torch.addcmul(one, other, factor)
    return torch.add(one, other, alpha=factor)
