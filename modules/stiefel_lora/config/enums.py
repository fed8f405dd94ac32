"""The closed choices of the schema, as literals: plain text in JSON and in Python."""

from __future__ import annotations

from typing import Literal

__all__ = [
    "DType",
    "LayerPreset",
    "LearningRateScheduler",
    "LoraInit",
    "ModelType",
    "OutputFormat",
]

DType = Literal["float32", "bfloat16", "float16"]
LayerPreset = Literal["attn-only", "attn-mlp", "full"]
LearningRateScheduler = Literal["constant", "cosine", "linear"]
LoraInit = Literal["auto", "loi", "stella"]
ModelType = Literal["sdxl"]
OutputFormat = Literal["kohya", "peft"]
