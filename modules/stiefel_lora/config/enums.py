"""Literal types of settings with a fixed list of values."""

from __future__ import annotations

from typing import Literal

from ..families.catalogue import ModelType

__all__ = [
    "AttentionMechanism",
    "DType",
    "EmaMode",
    "LayerPreset",
    "LearningRateScheduler",
    "LoraInit",
    "LossWeight",
    "ModelType",
    "OutputFormat",
    "PredictionType",
    "SamplerName",
    "TimestepDistribution",
    "TrackerName",
    "WeightDType",
]

AttentionMechanism = Literal["sdp", "xformers", "flash"]
DType = Literal["float32", "bfloat16", "float16"]
EmaMode = Literal["off", "gpu", "cpu"]
LayerPreset = Literal["attn-only", "attn-mlp", "full"]
LearningRateScheduler = Literal[
    "constant", "cosine", "cosine_with_restarts", "linear", "polynomial", "rex"
]
LoraInit = Literal["auto", "loi", "stella"]
LossWeight = Literal["constant", "min_snr_gamma", "debiased_estimation", "sigma"]
OutputFormat = Literal["kohya", "peft"]
SamplerName = Literal[
    "ddim",
    "ddpm",
    "dpm_2",
    "dpm_2_a",
    "dpmpp_2m",
    "dpmpp_2m_karras",
    "dpmpp_2m_sde",
    "dpmpp_2m_sde_karras",
    "euler",
    "euler_a",
    "heun",
    "pndm",
    "unipc",
]
TimestepDistribution = Literal[
    "uniform",
    "logit_normal",
    "heavy_tail",
    "cos_map",
    "sigmoid",
    "inverted_parabola",
]
TrackerName = Literal[
    "tensorboard",
    "wandb",
    "trackio",
    "comet_ml",
    "aim",
    "mlflow",
    "clearml",
    "dvclive",
    "swanlab",
]
WeightDType = Literal["float32", "bfloat16", "float16", "nfloat4", "int8"]
PredictionType = Literal["auto", "epsilon", "v_prediction"]
