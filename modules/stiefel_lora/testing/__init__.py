"""Tests for custom optimizers. Requires only torch."""

from __future__ import annotations

from .check import check_method
from .contract import CHECKS, Case
from .nets import LoraLinear, LoraNet, backward, products, snapshot, task, train

__all__ = [
    "CHECKS",
    "Case",
    "LoraLinear",
    "LoraNet",
    "backward",
    "check_method",
    "products",
    "snapshot",
    "task",
    "train",
]
