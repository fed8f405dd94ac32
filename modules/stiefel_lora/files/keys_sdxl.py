"""Key table of SDXL: diffusers' paths and kohya's (SGM, underscored).

It has every name that a model with SDXL's structure can have: three levels, two layers
a level.
"""

from __future__ import annotations

from collections.abc import Iterator

from .encoder_names import clip_layers
from .kohya_names import KohyaNames

__all__ = ["SDXL", "resnet_leaves", "transformer_leaves"]

_LEVELS = 3
_LAYERS = 2
# SDXL has up to 10 transformer blocks in a row; more costs nothing and lets relatives
# of SDXL pass.
_MAX_DEPTH = 32

_RESNET = {
    "conv1": "in_layers.2",
    "time_emb_proj": "emb_layers.1",
    "conv2": "out_layers.3",
    "conv_shortcut": "skip_connection",
}
_TRANSFORMER_BLOCK = (
    *(f"attn{n}.{leaf}" for n in (1, 2) for leaf in ("to_q", "to_k", "to_v")),
    *(f"attn{n}.to_out.0" for n in (1, 2)),
    "ff.net.0.proj",
    "ff.net.2",
)
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
    for leaf, sgm in _RESNET.items():
        yield f"{path}.{leaf}", f"{place}.{sgm}"


def _attention(path: str, place: str) -> Iterator[tuple[str, str]]:
    for leaf in transformer_leaves():
        yield f"{path}.{leaf}", f"{place}.{leaf}"


def resnet_leaves() -> Iterator[str]:
    """Layers of a resnet in diffusers' names."""
    yield from _RESNET


def transformer_leaves() -> Iterator[str]:
    """Layers of a spatial transformer, the same in both spellings."""
    yield from ("proj_in", "proj_out")
    for depth in range(_MAX_DEPTH):
        yield from (f"transformer_blocks.{depth}.{leaf}" for leaf in _TRANSFORMER_BLOCK)


SDXL = KohyaNames(
    _pairs,
    model="an SDXL",
    structure=" (three levels of two layers)",
    spelling="kohya's SGM spelling",
)
