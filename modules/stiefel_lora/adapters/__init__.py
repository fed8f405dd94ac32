"""Put LoRA into a model: which layers, which start, always float32 factors."""

from __future__ import annotations

from .dora import magnitude_changes, magnitude_of
from .lora import add_lora, alpha_of, factors_of, load_factors, pairs_of
from .moved import moved_pairs
from .offset import set_offset
from .targets import LAYER_PRESETS, check_room, select_layers

__all__ = [
    "LAYER_PRESETS",
    "add_lora",
    "alpha_of",
    "check_room",
    "factors_of",
    "load_factors",
    "magnitude_changes",
    "magnitude_of",
    "moved_pairs",
    "pairs_of",
    "select_layers",
    "set_offset",
]
