"""Key table of SDXL: layer names of diffusers and of kohya files (SGM names).

It contains all names of models with the structure of SDXL: three levels with two layers
each.
"""

from __future__ import annotations

from collections.abc import Iterator

from .encoder_names import clip_layers
from .kohya_names import KohyaNames
from .unet_names import RESNET, transformer_leaves

__all__ = ["SDXL"]

_LEVELS = 3
_LAYERS = 2
_OUTSIDE_BLOCKS = {
    "conv_in": "input_blocks.0.0",
    "conv_out": "out.2",
    "time_embedding.linear_1": "time_embed.0",
    "time_embedding.linear_2": "time_embed.2",
    "add_embedding.linear_1": "label_emb.0.0",
    "add_embedding.linear_2": "label_emb.0.2",
}


def _pairs() -> Iterator[tuple[str, str]]:
    for path, sgm in _unet():
        yield f"unet.{path}", f"lora_unet_{sgm}"
    for component, prefix in (("text_encoder", "te1"), ("text_encoder_2", "te2")):
        for path in clip_layers():
            yield f"{component}.{path}", f"lora_{prefix}_{path}"


def _unet() -> Iterator[tuple[str, str]]:
    yield from _OUTSIDE_BLOCKS.items()
    for n, place in ((0, 0), (1, 2)):
        yield from _resnet(f"mid_block.resnets.{n}", f"middle_block.{place}")
    yield from _attention("mid_block.attentions.0", "middle_block.1")
    for level in range(_LEVELS):
        down, up = f"down_blocks.{level}", f"up_blocks.{level}"
        # input_blocks.0 is conv_in; a level takes two layers and its downsampler.
        first = 1 + (_LAYERS + 1) * level
        for layer in range(_LAYERS):
            yield from _layer(down, layer, f"input_blocks.{first + layer}")
        yield f"{down}.downsamplers.0.conv", f"input_blocks.{first + _LAYERS}.0.op"
        first = (_LAYERS + 1) * level
        for layer in range(_LAYERS + 1):
            yield from _layer(up, layer, f"output_blocks.{first + layer}")
        # The upsampler shares its place with the level's last resnet and attention.
        yield f"{up}.upsamplers.0.conv", f"output_blocks.{first + _LAYERS}.2.conv"


def _layer(block: str, layer: int, place: str) -> Iterator[tuple[str, str]]:
    yield from _resnet(f"{block}.resnets.{layer}", f"{place}.0")
    yield from _attention(f"{block}.attentions.{layer}", f"{place}.1")


def _resnet(path: str, place: str) -> Iterator[tuple[str, str]]:
    for leaf, sgm in RESNET.items():
        yield f"{path}.{leaf}", f"{place}.{sgm}"


def _attention(path: str, place: str) -> Iterator[tuple[str, str]]:
    for leaf in transformer_leaves():
        yield f"{path}.{leaf}", f"{place}.{leaf}"


SDXL = KohyaNames(
    _pairs,
    model="an SDXL",
    structure=" (three levels of two layers)",
    spelling="the kohya format (SGM names)",
)
