"""Names of SD 1.5's modules: canonical (diffusers paths) and kohya.

sd-scripts names the layers of SD 1.x by diffusers' paths, underscored, and its one text
encoder ``te`` without a number. Underscores can not be parsed back into dots without
guessing, so both directions are one table of every name that such a model can have.
"""

from __future__ import annotations

import functools
from collections.abc import Iterator

from .._exceptions import ModelError
from .encoder_names import clip_layers
from .keys_sdxl import resnet_leaves, transformer_leaves

__all__ = ["from_kohya", "kohya_names", "to_kohya"]

_LEVELS = 4
_LAYERS = 2
_OUTSIDE_BLOCKS = (
    "conv_in",
    "conv_out",
    "time_embedding.linear_1",
    "time_embedding.linear_2",
)


def to_kohya(name: str) -> str:
    """Canonical name -> stem of the kohya keys.

    ``unet.mid_block.resnets.0.conv1`` -> ``lora_unet_mid_block_resnets_0_conv1``

    Raises:
        ModelError: SD 1.5 has no such module.
    """
    stem = kohya_names().get(name)
    if stem is None:
        raise ModelError(
            f"{name!r} has no kohya name: it is no layer of an SD 1.5 model (four "
            "levels of two layers). Write the PEFT format instead."
        )
    return stem


def from_kohya(stem: str) -> str:
    """Stem of the kohya keys -> canonical name, the inverse of ``to_kohya``.

    Raises:
        ModelError: no module of an SD 1.5 model has this stem.
    """
    name = _inverse().get(stem)
    if name is None:
        raise ModelError(f"{stem!r} names no layer of an SD 1.5 model in kohya's way.")
    return name


@functools.cache
def kohya_names() -> dict[str, str]:
    """Canonical name -> stem of the kohya keys, for every layer of the family."""
    names = [(f"unet.{path}", f"lora_unet_{path}") for path in _unet()]
    names += [(f"text_encoder.{path}", f"lora_te_{path}") for path in clip_layers()]
    return {name: stem.replace(".", "_") for name, stem in names}


@functools.cache
def _inverse() -> dict[str, str]:
    return {stem: name for name, stem in kohya_names().items()}


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
    yield from (f"{block}.resnets.{layer}.{leaf}" for leaf in resnet_leaves())
    attention = f"{block}.attentions.{layer}"
    yield from (f"{attention}.{leaf}" for leaf in transformer_leaves())
