"""The closed choices of the schema, as literals: plain text in JSON and in Python."""

from __future__ import annotations

from typing import Literal

__all__ = [
    "DType",
    "LayerPreset",
    "LearningRateScheduler",
    "ModelType",
    "OutputFormat",
]

DType = Literal["float32", "bfloat16", "float16"]
LayerPreset = Literal["attn-only", "attn-mlp", "full"]
LearningRateScheduler = Literal["constant", "cosine", "linear"]
ModelType = Literal["sdxl"]
OutputFormat = Literal["kohya", "peft"]
