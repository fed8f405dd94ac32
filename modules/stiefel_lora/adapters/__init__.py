"""Put LoRA into a model: which layers, which start, always float32 factors."""

from __future__ import annotations

from .dora import base_lengths, magnitude_of, row_lengths
from .lora import (
    add_lora,
    alpha_of,
    factors_of,
    load_factors,
    lora_parameters,
    pairs_of,
)
from .moved import Moves, moves_of
from .offset import set_offset
from .ranks import ranks_of
from .targets import check_room, select_layers
from .text_targets import select_text_layers

__all__ = [
    "Moves",
    "add_lora",
    "alpha_of",
    "base_lengths",
    "check_room",
    "factors_of",
    "load_factors",
    "lora_parameters",
    "magnitude_of",
    "moves_of",
    "pairs_of",
    "ranks_of",
    "row_lengths",
    "select_layers",
    "select_text_layers",
    "set_offset",
]
