"""Key table of SD 1.5: layer names of diffusers and of kohya files.

sd-scripts uses the names of diffusers with underscores for SD 1.x, and ``te`` without a
number for the text encoder.
"""

from __future__ import annotations

from collections.abc import Iterator

from .encoder_names import clip_layers
from .kohya_names import KohyaNames
from .unet_names import RESNET, transformer_leaves

__all__ = ["SD15"]

_LEVELS = 4
_LAYERS = 2
_OUTSIDE_BLOCKS = (
    "conv_in",
    "conv_out",
    "time_embedding.linear_1",
    "time_embedding.linear_2",
)


def _pairs() -> Iterator[tuple[str, str]]:
    for path in _unet():
        yield f"unet.{path}", f"lora_unet_{path}"
    for path in clip_layers():
        yield f"text_encoder.{path}", f"lora_te_{path}"


def _unet() -> Iterator[str]:
    yield from _OUTSIDE_BLOCKS
    yield from _layer("mid_block", 0)
    yield from _layer("mid_block", 1)
    for level in range(_LEVELS):
        for layer in range(_LAYERS):
            yield from _layer(f"down_blocks.{level}", layer)
        for layer in range(_LAYERS + 1):
            yield from _layer(f"up_blocks.{level}", layer)
        yield f"down_blocks.{level}.downsamplers.0.conv"
        yield f"up_blocks.{level}.upsamplers.0.conv"


def _layer(block: str, layer: int) -> Iterator[str]:
    yield from (f"{block}.resnets.{layer}.{leaf}" for leaf in RESNET)
    attention = f"{block}.attentions.{layer}"
    yield from (f"{attention}.{leaf}" for leaf in transformer_leaves())


SD15 = KohyaNames(
    _pairs,
    model="an SD 1.5",
    structure=" (four levels of two layers)",
    spelling="the kohya format",
)
