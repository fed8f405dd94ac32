"""Reading of LoRA files in the kohya or PEFT format."""

from __future__ import annotations

import os
import re
from collections.abc import Collection

from .._exceptions import ModelError
from ..families.catalogue import DEFAULT, listed, records
from .kohya import parse_kohya
from .peft import parse_peft
from .tensors import read_tensors
from .weights import COMPONENTS, LoraWeights

__all__ = ["load_lora"]

_PEFT = tuple(f"{component}." for component in COMPONENTS)
_KOHYA = ("lora_unet_", "lora_te1_", "lora_te2_", "lora_te3_", "lora_te_")


def load_lora(path: str | os.PathLike[str]) -> LoraWeights:
    """Load a LoRA file in the kohya or PEFT format.

    Raises:
        ModelError: If the file is missing, damaged, or not a LoRA of a supported
            family.
    """
    tensors, metadata = read_tensors(path)
    try:
        if tensors and all(key.startswith(_KOHYA) for key in tensors):
            return parse_kohya(tensors, family=_family_of(tensors))
        if tensors and all(key.startswith(_PEFT) for key in tensors):
            return parse_peft(tensors, metadata)
    except (AttributeError, TypeError, ValueError, re.error) as error:
        raise ModelError(f"{path} cannot be read as a LoRA: {error}") from error
    example = f", for example {next(iter(tensors))!r}" if tensors else ""
    families = listed(record.short_label for record in records())
    raise ModelError(
        f"{path} is not a kohya or PEFT LoRA of {families}: its {len(tensors)} keys "
        f"do not match{example}."
    )


def _family_of(keys: Collection[str]) -> str:
    """Detect the family by its key names."""
    # Later families first: a file that mixes families is reported under the later one.
    for record in reversed(records()):
        marks = record.lora_files.marks
        if marks and any(key.startswith(marks) for key in keys):
            return record.name
    return DEFAULT
