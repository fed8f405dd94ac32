"""Sections of a model, such as ``mid_block``, and kinds of layers."""

from __future__ import annotations

import re

from .layer_names import MODEL

__all__ = ["layer_kind", "section_of"]

_NUMBERED = re.compile(
    r"(?P<blocks>(?:[a-z]+_)*?(?:blocks?|layers|refiner))_(?P<n>\d+)_"
)
_NUMBER = re.compile(r"(?<![a-z])\d+(?=_|$)")


def section_of(key: str) -> str:
    """Return the section of a layer. A text encoder is a single section.

    Args:
        key: key of the layer (``LoraLayer.key``).

    >>> section_of("model:down_blocks_1_attentions_0_proj_in")
    'down_blocks.1'
    """
    component, _, path = key.partition(":")
    if component != MODEL:
        return component
    if found := _NUMBERED.match(path):
        return f"{found['blocks']}.{found['n']}"
    return "mid_block" if path.startswith("mid_block_") else "other"


def layer_kind(key: str) -> str:
    """Return the name of a layer without block numbers, to group similar layers.

    >>> layer_kind("model:down_blocks_1_attentions_0_proj_in")
    'model:attentions_#_proj_in'
    """
    kind = _NUMBER.sub("#", key)
    # Layers of one kind occur in all parts of a UNet.
    return re.sub(r"(?<=:)(?:down_blocks_#|up_blocks_#|mid_block)_", "", kind)
