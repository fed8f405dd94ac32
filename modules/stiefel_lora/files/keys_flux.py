"""Key table of FLUX.1: layer names of the original checkpoint and of kohya files.

Layers that are separate in diffusers are fused in both. ``files.fused_flux`` converts
between the two forms.
"""

from __future__ import annotations

from collections.abc import Iterator

from ..families.flux_names import (
    DOUBLE,
    FUSED_DOUBLE,
    FUSED_SINGLE,
    OUTSIDE_BLOCKS,
    SINGLE,
)
from .encoder_names import clip_layers, t5_layers
from .kohya_names import KohyaNames

__all__ = ["FLUX", "MAX_BLOCKS"]

MAX_BLOCKS = 64
"""Number of blocks of each kind in the table. FLUX.1 has 19 and 38 blocks."""


def _pairs() -> Iterator[tuple[str, str]]:
    for path in _transformer():
        yield f"transformer.{path}", f"lora_unet_{path}"
    for path in clip_layers():
        yield f"text_encoder.{path}", f"lora_te1_{path}"
    # sd-scripts numbers T5 as the third text encoder in all families.
    for path in t5_layers():
        yield f"text_encoder_2.{path}", f"lora_te3_{path}"


def _transformer() -> Iterator[str]:
    yield from OUTSIDE_BLOCKS
    for block in range(MAX_BLOCKS):
        for leaf in (*FUSED_DOUBLE, *DOUBLE):
            yield f"double_blocks.{block}.{leaf}"
        for leaf in (*FUSED_SINGLE, *SINGLE):
            yield f"single_blocks.{block}.{leaf}"


FLUX = KohyaNames(_pairs, model="a FLUX.1", spelling="the kohya format")
