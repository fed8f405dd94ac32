"""Optimizers on plain LoRA pairs; torch and nothing else."""

from __future__ import annotations

from .adamw import AdamW
from .alpha import fold_alpha_
from .engine import PairOptimizer
from .factory import create_optimizer
from .initialise import init_stiefel_
from .pairs import Pair, PairMap, find_pairs
from .rule import PairBatch, Rule
from .stiefel import StiefelLoRA

__all__ = [
    "AdamW",
    "Pair",
    "PairBatch",
    "PairMap",
    "PairOptimizer",
    "Rule",
    "StiefelLoRA",
    "create_optimizer",
    "find_pairs",
    "fold_alpha_",
    "init_stiefel_",
]
