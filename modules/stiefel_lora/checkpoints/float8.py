"""Support for scaled 8-bit checkpoints (float8_e4m3fn).

A weight W is stored as W / s, and the scale s is a number. It has the name
``<layer>.scale_weight`` in files with the key ``scaled_fp8``, and
``<layer>.weight_scale`` in the later format of ComfyUI (QUANTIZATION.md). Scales of
activations (``scale_input``, ``input_scale``) are ignored.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import torch
from torch import Tensor

from .._exceptions import ModelError
from .header import Entry

__all__ = ["check_scales", "is_scale", "unscaled"]

_WEIGHT_SCALES = ("scale_weight", "weight_scale")
_OTHERS = ("scale_input", "input_scale", "comfy_quant", "scaled_fp8")
# Formats that share names with the above, but need more than one factor.
_REFUSED = ("weight_scale_2", "pre_quant_scale", "weight_scale_inv")
_INTEGERS = ("I8", "U8")


def is_scale(name: str) -> bool:
    """Return whether a tensor is a scale or a description of other tensors."""
    return name.rpartition(".")[2] in (*_WEIGHT_SCALES, *_OTHERS)


def check_scales(path: Path, entries: Mapping[str, Entry]) -> None:
    """Check that quantized weights have one scale per tensor.

    Raises:
        ModelError: If the quantization uses blocks, integers, or additional factors.
    """
    for name, entry in entries.items():
        leaf = name.rpartition(".")[2]
        several = leaf in _WEIGHT_SCALES and entry.size > 4
        packed = leaf == "weight" and entry.dtype in _INTEGERS
        if several or packed or leaf in _REFUSED:
            raise ModelError(
                f"{path} uses a quantization that is not supported ({name}). Use a "
                "checkpoint in float16, bfloat16, float32 or float8_e4m3fn."
            )


def unscaled(tensors: Mapping[str, Tensor], dtype: torch.dtype) -> dict[str, Tensor]:
    """Multiply scaled weights by their scales in float32, and remove the scales.

    Tensors without a scale are not changed.
    """
    return {
        name: _times(tensor, _scale_of(name, tensors), dtype)
        for name, tensor in tensors.items()
        if not is_scale(name)
    }


def _scale_of(name: str, tensors: Mapping[str, Tensor]) -> Tensor | None:
    layer, _, leaf = name.rpartition(".")
    if leaf != "weight":
        return None
    found = (tensors.get(f"{layer}.{scale}") for scale in _WEIGHT_SCALES)
    return next((scale for scale in found if scale is not None), None)


def _times(tensor: Tensor, scale: Tensor | None, dtype: torch.dtype) -> Tensor:
    if scale is None:
        return tensor
    return tensor.float().mul_(scale.float().reshape(())).to(dtype)
