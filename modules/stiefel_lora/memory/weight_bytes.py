"""Size of frozen weights in the supported data types."""

from __future__ import annotations

from collections.abc import Sequence

from .steps import Kept, Layer, Step, Unit, steps_of

__all__ = ["PLAIN", "QUANTIZED", "denoiser_bytes", "parameters_of"]

PLAIN = {"float32": 4, "bfloat16": 2, "float16": 2}
"""Bytes per element by dtype."""

# Numbers that share a scale, and scales that share a second-level scale.
BLOCK, BLOCKS = 64, 256
QUANTIZED = {"int8": 1.0, "nfloat4": 0.5 + 1 / BLOCK + 4 / (BLOCK * BLOCKS)}
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


def _quantized(layer: Layer, dtype: str, width: int) -> float:
    rows = layer.outputs * ROW if dtype == "int8" else 0
    bias = layer.outputs * layer.bias * width
    return layer.outputs * layer.inputs * QUANTIZED[dtype] + rows + bias


def _parameters(step: Step) -> int:
    return 0 if isinstance(step, Kept) else step.parameters
