"""Read a LoRA file of either format."""

from __future__ import annotations

import os
import re
from collections.abc import Collection

from .._exceptions import ModelError
from .keys_flux import OUTSIDE_BLOCKS
from .kohya import parse_kohya
from .peft import parse_peft
from .tensors import read_tensors
from .weights import COMPONENTS, LoraWeights

__all__ = ["load_lora"]

_PEFT = tuple(f"{component}." for component in COMPONENTS)
_KOHYA = ("lora_unet_", "lora_te1_", "lora_te2_", "lora_te3_", "lora_te_")
# T5 and the blocks of FLUX.1; names outside its blocks are in no other family either.
_FLUX = (
    *("lora_te3_", "lora_unet_double_blocks_", "lora_unet_single_blocks_"),
    *(f"lora_unet_{name.replace('.', '_')}." for name in OUTSIDE_BLOCKS.values()),
)
# SD 1.5's blocks have diffusers' names, SDXL's those of the original.
_SD15 = (
    "lora_te_",
    *(f"lora_unet_{block}_" for block in ("down_blocks", "mid_block", "up_blocks")),
)


def load_lora(path: str | os.PathLike[str]) -> LoraWeights:
    """Read a kohya-style or PEFT-style LoRA of SDXL, SD 1.5 or FLUX.1 as it is stored.

    Raises:
        ModelError: the file is missing, damaged, or no such LoRA.
    """
    tensors, metadata = read_tensors(path)
    try:
        if tensors and all(key.startswith(_KOHYA) for key in tensors):
            return parse_kohya(tensors, family=_family_of(tensors))
        if tensors and all(key.startswith(_PEFT) for key in tensors):
            return parse_peft(tensors, metadata)
    except (AttributeError, TypeError, ValueError, re.error) as error:
        raise ModelError(f"{path} can not be read as a LoRA: {error}") from error
    example = f", for example {next(iter(tensors))!r}" if tensors else ""
    raise ModelError(
        f"{path} is no kohya-style or PEFT-style LoRA of SDXL, SD 1.5 or FLUX.1: its "
        f"{len(tensors)} keys are of another kind{example}."
    )


def _family_of(keys: Collection[str]) -> str:
    """By the names of its layers; CLIP alone is the same in SDXL and FLUX.1."""
    if any(key.startswith(_FLUX) for key in keys):
        return "flux"
    return "sd15" if any(key.startswith(_SD15) for key in keys) else "sdxl"
