"""Creation of LoRA layers: selection of layers, initialization, and factors."""

from __future__ import annotations

from .dora_layers import base_lengths, magnitude_of, row_lengths
from .effective_update import EffectiveUpdate, effective_update
from .layer_ranks import ranks_of
from .layer_rates import rate_factors
from .lora import (
    add_lora,
    alpha_of,
    factors_of,
    load_factors,
    lora_parameters,
    pairs_of,
)
from .lora_dropout import LoraDropout
from .offset import set_offset
from .targets import check_room, select_layers
from .text_targets import select_text_layers
from .without_lora import without_lora

__all__ = [
    "EffectiveUpdate",
    "LoraDropout",
    "add_lora",
    "alpha_of",
    "base_lengths",
    "check_room",
    "effective_update",
    "factors_of",
    "load_factors",
    "lora_parameters",
    "magnitude_of",
    "pairs_of",
    "ranks_of",
    "rate_factors",
    "row_lengths",
    "select_layers",
    "select_text_layers",
    "set_offset",
    "without_lora",
]
