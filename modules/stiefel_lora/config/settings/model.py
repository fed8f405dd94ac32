"""The base model and the precision it is held and computed in."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from .._base import StrictModel
from ..enums import DType, ModelType

__all__ = ["ModelSettings"]


class ModelSettings(StrictModel):
    """The base model and the precision it is held and computed in."""

    model_type: ModelType = "sdxl"
    """Family of the base model."""

    base_model_name: Annotated[str, Field(min_length=1)] | None = None
    """Base model: a folder in diffusers layout, or a name on the Hugging Face hub
    such as stabilityai/stable-diffusion-xl-base-1.0."""

    weight_dtype: DType = "bfloat16"
    """Precision in which the frozen base model is held in memory."""

    train_dtype: DType = "bfloat16"
    """Precision of the computation. bfloat16 for NVIDIA cards from 2020 on, float16 for
    older ones, float32 for a CPU. The LoRA itself is always float32."""
