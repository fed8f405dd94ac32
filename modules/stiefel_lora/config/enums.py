"""The closed choices of the schema, as literals: plain text in JSON and in Python."""

from __future__ import annotations

from typing import Literal

__all__ = [
    "FLOW_MODELS",
    "DType",
    "LayerPreset",
    "LearningRateScheduler",
    "LoraInit",
    "LossWeight",
    "ModelType",
    "OutputFormat",
    "PredictionType",
    "TimestepDistribution",
]

DType = Literal["float32", "bfloat16", "float16"]
LayerPreset = Literal["attn-only", "attn-mlp", "full"]
LearningRateScheduler = Literal["constant", "cosine", "linear"]
LoraInit = Literal["auto", "loi", "stella"]
LossWeight = Literal["constant", "min_snr_gamma", "debiased_estimation", "sigma"]
ModelType = Literal["sdxl", "flux"]
OutputFormat = Literal["kohya", "peft"]
TimestepDistribution = Literal[
    "uniform",
    "logit_normal",
    "heavy_tail",
    "cos_map",
    "sigmoid",
    "inverted_parabola",
]

FLOW_MODELS = frozenset({"flux"})
"""Families that predict a flow between picture and noise."""
PredictionType = Literal["auto", "epsilon", "v_prediction"]
