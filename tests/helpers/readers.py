"""What programs for images make of a kohya-style file, in our own words."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor

__all__ = ["weight_in_comfyui"]


def weight_in_comfyui(
    weight: Tensor, tensors: Mapping[str, Tensor], stem: str, strength: float = 1.0
) -> Tensor:
    """Patch a weight as ComfyUI a125cd8 and Forge dfdcbab do.

    The first size of ``dora_scale`` decides: that of the rows means that each row is
    divided by its length in the base model, any other that each column is divided by
    its length in the sum.
    """
    up, down = (tensors[f"{stem}.lora_{half}.weight"] for half in ("up", "down"))
    scale = float(tensors[f"{stem}.alpha"]) / down.shape[0]
    move = (up.flatten(1).float() @ down.flatten(1).float()).reshape(weight.shape)
    lengths = tensors.get(f"{stem}.dora_scale")
    if lengths is None:
        return weight + strength * scale * move
    merged = weight + scale * move
    rows = lengths.shape[0] == weight.shape[0]
    measured, kept = (weight, 0) if rows else (merged, 1)
    others = [axis for axis in range(weight.ndim) if axis != kept]
    own = torch.linalg.vector_norm(measured, dim=others, keepdim=True)
    merged = merged * (lengths / (own + torch.finfo(weight.dtype).eps))
    return weight + strength * (merged - weight)
