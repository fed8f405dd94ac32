"""Parse paths with a weight, such as ``style.safetensors:0.7``, without torch."""

from __future__ import annotations

import math
import os
from pathlib import Path

from ._exceptions import OptionError

__all__ = ["parse_part", "split_weight"]


def split_weight(text: str) -> tuple[str, str]:
    """Split a path with a weight into the path and the weight with its colon.

    If a file with the whole text as its name exists, the weight is empty.

    >>> split_weight("C:/loras/style.safetensors:0.7")
    ('C:/loras/style.safetensors', ':0.7')
    >>> split_weight("C:/loras/style.safetensors")
    ('C:/loras/style.safetensors', '')
    """
    path, colon, number = text.rpartition(":")
    if not colon or not path or os.path.exists(text):
        return text, ""
    try:
        float(number)
    except ValueError:
        if not os.path.isfile(path):
            return text, ""
    return path, colon + number


def parse_part(text: str) -> tuple[Path, float]:
    """Parse ``PATH`` or ``PATH:WEIGHT``, where WEIGHT is a number.

    >>> parse_part("C:/loras/style.safetensors:0.7")[1]
    0.7

    Raises:
        OptionError: If the weight of an existing file is not a finite number.
    """
    path, weight = split_weight(text)
    if not weight:
        return Path(path), 1.0
    if split_weight(path)[1]:
        raise OptionError(f"{text}: two weights. Use one, such as {path}.")
    number = weight[1:]
    try:
        value = float(number)
    except ValueError:
        value = math.nan
    if not math.isfinite(value):
        raise OptionError(
            f"{text}: the weight {number or 'after the colon'} is not a finite number. "
            "Use a number such as 0.7."
        )
    return Path(path), value
