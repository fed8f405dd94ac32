"""Bytes of frozen weights in the precisions that a base model can be held in."""

from __future__ import annotations

from collections.abc import Sequence

from .steps import Kept, Layer, Step, Unit, steps_of

__all__ = ["PLAIN", "QUANTIZED", "denoiser_bytes", "parameters_of"]

PLAIN = {"float32": 4, "bfloat16": 2, "float16": 2}
"""Bytes of a number by dtype."""

# Numbers that share a scale, and scales that share a scale of their own.
BLOCK, BLOCKS = 64, 256
QUANTIZED = {"int8": 1.0, "nfloat4": 0.5 + 1 / BLOCK + 4 / (BLOCK * BLOCKS)}
"""Bytes of a number in a quantized layer: bitsandbytes keeps one byte for each block of
NF4 and a float32 for each 256 blocks; with int8 a float32 for each row."""

ROW = 4


def parameters_of(model: Sequence[Step | Unit]) -> int:
    """Numbers in all weights."""
    return sum(map(_parameters, steps_of(model)))


def denoiser_bytes(model: Sequence[Step | Unit], dtype: str, others: str) -> int:
    """Bytes of all weights.

    Args:
        model: its steps.
        dtype: ``weight_dtype``.
        others: dtype of what is not in the linear layers of the repeated blocks, where
            ``dtype`` quantizes those.
    """
    if dtype in PLAIN:
        return PLAIN[dtype] * parameters_of(model)
    found = 0.0
    for part in model:
        repeated = isinstance(part, Unit) and part.repeated
        for step in part.steps if isinstance(part, Unit) else (part,):
            if repeated and isinstance(step, Layer):
                found += _quantized(step, dtype, PLAIN[others])
            else:
                found += _parameters(step) * PLAIN[others]
    return round(found)


def _quantized(layer: Layer, dtype: str, width: int) -> float:
    rows = layer.outputs * ROW if dtype == "int8" else 0
    bias = layer.outputs * layer.bias * width
    return layer.outputs * layer.inputs * QUANTIZED[dtype] + rows + bias


def _parameters(step: Step) -> int:
    return 0 if isinstance(step, Kept) else step.parameters
