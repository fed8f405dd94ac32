"""Conversion of trained factors to tensors for a file."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from .._exceptions import OutputError
from .weights import LoraWeights

__all__ = ["all_finite", "check_weights", "stored"]

_DTYPES = (torch.float32, torch.float16, torch.bfloat16)


def check_weights(weights: LoraWeights, dtype: torch.dtype) -> None:
    """Check that a LoRA is not empty and that its dtype is supported.

    Raises:
        OutputError: If there are no weights, or the dtype is not supported.
    """
    if not weights:
        raise OutputError(
            "The LoRA is empty because no layer was adapted. Select layers with "
            "layer_filter or get_peft_model."
        )
    if dtype not in _DTYPES:
        raise OutputError(
            f"{dtype} is not supported for LoRA files. Use float32, float16 or "
            "bfloat16."
        )


def all_finite(tensor: Tensor) -> bool:
    """Return whether all values of a tensor are finite.

    The minimum and maximum are checked, which is ten times faster than
    ``torch.isfinite``.
    """
    if tensor.numel() == 0:
        return True
    # 8 bits have no extremes.
    wide = tensor.float() if tensor.dtype.itemsize == 1 else tensor
    return all(math.isfinite(float(extreme)) for extreme in wide.aminmax())


def stored(
    name: str,
    factor: Tensor,
    dtype: torch.dtype,
    *,
    scale: float = 1.0,
    copy: bool = True,
) -> Tensor:
    """Convert ``scale`` x ``factor`` to ``dtype`` on the CPU.

    Args:
        name: name of the layer for error messages.
        factor: tensor of any dtype.
        dtype: dtype of the result.
        scale: scale, which is multiplied in float64.
        copy: whether to always copy. If False, the result may share memory with
            ``factor``.

    Raises:
        OutputError: If a value is not finite, or exceeds the range of ``dtype``.
    """
    exact = factor.detach().to("cpu", copy=copy)
    if scale != 1.0:
        exact = exact.double() * scale
    result = exact.to(dtype).contiguous()
    if not all_finite(result):
        fits = all_finite(exact)
        advice = "a smaller weight" if dtype == torch.float32 else "float32"
        reason = (
            f"exceeds the range of {dtype}. Use {advice}" if fits else "is not finite"
        )
        raise OutputError(f"{name} was not saved: a value of its factors {reason}.")
    return result
