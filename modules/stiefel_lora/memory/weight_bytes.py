"""Size of frozen weights in the supported data types."""

from __future__ import annotations

import math
from collections.abc import Sequence

from .steps import Kept, Layer, Step, Unit, steps_of

__all__ = [
    "PLAIN",
    "QUANTIZED",
    "denoiser_bytes",
    "divided_bytes",
    "gathered_bytes",
    "parameters_of",
]

PLAIN = {"float32": 4, "bfloat16": 2, "float16": 2}
"""Bytes per element by dtype."""

# Numbers that share a scale, and scales that share a second-level scale.
BLOCK, BLOCKS = 64, 256
PACKED = {"int8": 1.0, "nfloat4": 0.5}
SCALES = {"int8": 0.0, "nfloat4": 1 / BLOCK + 4 / (BLOCK * BLOCKS)}
QUANTIZED = {dtype: PACKED[dtype] + SCALES[dtype] for dtype in PACKED}
"""Bytes per element in a quantized layer.

For NF4, bitsandbytes additionally stores a byte per block and a float32 per 256 blocks;
for int8, a float32 per row.
"""

ROW = 4


def parameters_of(model: Sequence[Step | Unit]) -> int:
    """Return the number of parameters."""
    return sum(map(_parameters, steps_of(model)))


def denoiser_bytes(model: Sequence[Step | Unit], dtype: str, others: str) -> int:
    """Return the size of all weights in bytes.

    Args:
        model: operations of the model.
        dtype: data type of the weights (``weight_dtype``).
        others: data type of all weights except for the linear layers in repeated
            blocks, if ``dtype`` is a quantized type.
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


def divided_bytes(
    model: Sequence[Step | Unit], dtype: str, others: str, processes: int
) -> int:
    """Return the size of the part of the weights that one process holds (FSDP).

    The scales of quantized weights are not divided.
    """
    whole = denoiser_bytes(model, dtype, others)
    scales = SCALES.get(dtype, 0.0) * sum(
        step.outputs * step.inputs
        for part in model
        if isinstance(part, Unit) and part.repeated
        for step in part.steps
        if isinstance(step, Layer)
    )
    return math.ceil((whole - scales) / processes + scales)


def gathered_bytes(model: Sequence[Step | Unit], dtype: str, others: str) -> int:
    """Return the size of whole weights that a process holds during a step (FSDP).

    These are the weights outside of blocks, the block that is computed, the next one,
    and the buffer with which it is gathered.
    """
    outside = [part for part in model if not isinstance(part, Unit)]
    blocks = [[part] for part in model if isinstance(part, Unit)]
    largest = max(denoiser_bytes(block, dtype, others) for block in blocks)
    return denoiser_bytes(outside, dtype, others) + 3 * largest


def _quantized(layer: Layer, dtype: str, width: int) -> float:
    rows = layer.outputs * ROW if dtype == "int8" else 0
    bias = layer.outputs * layer.bias * width
    return layer.outputs * layer.inputs * QUANTIZED[dtype] + rows + bias


def _parameters(step: Step) -> int:
    return 0 if isinstance(step, Kept) else step.parameters
