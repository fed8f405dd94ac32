"""Search for layers with NaN or infinity in a LoRA file."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

import torch
from torch import Tensor

from ..._exceptions import ModelError
from .._prepare import all_finite
from .lora_file import LoraFile, LoraLayer

__all__ = ["broken_layers", "check_finite", "check_finite_lengths", "is_finite"]


def is_finite(layer: LoraLayer) -> bool:
    """Return whether all factors and DoRA scales of a layer are finite."""
    factors = layer.factors
    parts = (factors.up, factors.down, factors.magnitude, factors.dora_scale)
    return all(part is None or all_finite(_as_loaded(part)) for part in parts)


def _as_loaded(part: Tensor) -> Tensor:
    """Round float64, which no loader computes in, to float32."""
    return part.float() if part.dtype == torch.float64 else part


def broken_layers(file: LoraFile) -> list[str]:
    """Return the names of all layers with NaN or infinity, including other adapters."""
    found = [layer.name for layer in file.layers if not is_finite(layer)]
    for other in file.others:
        if not all(all_finite(tensor) for tensor in other.tensors.values()):
            found.append(other.name)
    return found


def check_finite(file: LoraFile) -> None:
    """Check that a file does not contain NaN or infinity.

    Raises:
        ModelError: If a layer contains NaN or infinity.
    """
    _raise_for(file, broken_layers(file))


def check_finite_lengths(file: LoraFile, norms: Mapping[str, float]) -> None:
    """Check that a file does not contain NaN or infinity, by the norms of its updates.

    Args:
        file: file with plain LoRA layers only.
        norms: Frobenius norms of the updates in float64, by layer key.

    Raises:
        ModelError: If a layer contains NaN or infinity.
    """
    layers = file.layers
    _raise_for(file, [x.name for x in layers if not math.isfinite(norms[x.key])])


def _raise_for(file: LoraFile, broken: Sequence[str]) -> None:
    if broken:
        more = f" and {len(broken) - 3} more" if len(broken) > 3 else ""
        raise ModelError(
            f"{file.path}: NaN or infinity in {', '.join(broken[:3])}{more}. Use an "
            "earlier checkpoint of the training."
        )
