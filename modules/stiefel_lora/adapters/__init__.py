"""Put LoRA into a model: which layers, which start, always float32 factors."""

from __future__ import annotations

from .lora import add_lora, alpha_of, factors_of, load_factors, pairs_of
from .targets import LAYER_PRESETS, select_layers

__all__ = [
    "LAYER_PRESETS",
    "add_lora",
    "alpha_of",
    "factors_of",
    "load_factors",
    "pairs_of",
    "select_layers",
]
