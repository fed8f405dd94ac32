"""Sections of a model, such as ``mid_block``, their factors, and kinds of layers."""

from __future__ import annotations

import math
import re
from collections.abc import Iterable

from ..._exceptions import OptionError
from .layer_names import MODEL

__all__ = ["layer_kind", "parse_section", "parse_sections", "section_of"]

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


def parse_section(text: str, files: int) -> tuple[int, str, float]:
    """Parse ``2:down_blocks.*=0.5`` into file index, pattern and factor.

    Args:
        text: file number (starting at 1), section pattern and factor.
        files: number of files.

    Raises:
        OptionError: If the text does not have this form.
    """
    found = re.fullmatch(r"(\d+):(.+)=([^=]+)", text)
    try:
        if found is None or not 1 <= int(found[1]) <= files:
            raise ValueError
        factor = float(found[3])
        if not math.isfinite(factor):
            raise ValueError
    except ValueError:
        raise OptionError(
            f"--section: {text} must have the form FILE:PATTERN=FACTOR with FILE "
            f"from 1 to {files}, for example 1:down_blocks.*=0.5."
        ) from None
    return int(found[1]) - 1, found[2], factor


def parse_sections(texts: Iterable[str], files: int) -> list[dict[str, float]]:
    """Return the factors of each file by pattern, in the order of ``Part.sections``.

    A repeated pattern is moved to the end, because the last matching one is used.

    Raises:
        OptionError: If a text does not have the form of :func:`parse_section`.
    """
    factors: list[dict[str, float]] = [{} for _ in range(files)]
    for text in texts:
        place, pattern, factor = parse_section(text, files)
        factors[place].pop(pattern, None)
        factors[place][pattern] = factor
    return factors
