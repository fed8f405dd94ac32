"""The base model, its weights and its precision."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from ...families.catalogue import DEFAULT
from .._base import Count, Flag, PathText, StrictModel, setting
from ..enums import (
    AttentionMechanism,
    DType,
    ModelType,
    PredictionType,
    WeightDType,
)

__all__ = ["PART_SETTINGS", "ModelSettings"]

PART_SETTINGS = (
    "unet",
    "transformer",
    "vae",
    "text_encoder",
    "text_encoder_2",
    "tokenizer_2",
)
"""Parts of a model that may come from elsewhere; each has its ``<part>_model_name``."""

PartName = PathText | None


class ModelSettings(StrictModel):
    """The base model, its weights and its precision."""

    model_type: ModelType = setting(DEFAULT, label="Model type")
    """Family of the base model. flux: FLUX.1 dev and schnell."""

    base_model_name: PathText | None = setting(None, label="Base model")
    """Base model: a .safetensors checkpoint, a folder in diffusers layout, or a name on
    the Hugging Face hub such as stabilityai/stable-diffusion-xl-base-1.0."""

    unet_model_name: PartName = setting(None, label="UNet override")
    """SDXL and SD 1.5: UNet to use instead of the base model's; as for all parts, a
    .safetensors file, a folder or a hub name."""

    transformer_model_name: PartName = setting(None, label="Transformer override")
    """FLUX: transformer to use instead of the base model's."""

    vae_model_name: PartName = setting(None, label="VAE override")
    """VAE to use instead of the base model's, or if its file has none."""

    text_encoder_model_name: PartName = setting(None, label="Text encoder override")
    """CLIP text encoder to use instead of the base model's, or if its file has none."""

    text_encoder_2_model_name: PartName = setting(None, label="Text encoder 2 override")
    """Second text encoder (SDXL: OpenCLIP bigG; FLUX: T5) to use instead of the base
    model's, or if its file has none."""

    tokenizer_2_model_name: PartName = setting(None, label="Tokenizer 2 override")
    """FLUX: folder or hub name with the T5 tokenizer, which no .safetensors file
    has."""

    allow_pickled_weights: Flag = setting(False, label="Allow pickled weights")
    """Load weights from .bin files if the folder of a part has no .safetensors file.
    Only tensors are unpickled; use it for sources that you trust."""

    prediction_type: PredictionType = setting("auto", label="Prediction type")
    """Prediction of an SDXL or SD 1.5 model. auto: as in its configuration or file;
    v-prediction models whose files do not declare it need v_prediction here."""

    text_encoder_2_sequence_length: Annotated[Count, Field(ge=16, le=512)] | None = (
        setting(
            None,
            label="Text encoder 2 sequence length",
            unset_means="512 for dev, 256 for schnell, as these were trained",
        )
    )
    """FLUX: number of T5 tokens per caption; fewer are faster and take less disk
    space."""

    weight_dtype: WeightDType = setting("bfloat16", label="Weight data type")
    """Precision of the frozen base model in memory. nfloat4 and int8 need bitsandbytes,
    and a quarter or half of the memory of bfloat16."""

    train_dtype: DType = setting("bfloat16", label="Train data type")
    """Precision of the computation: bfloat16 for NVIDIA GPUs from 2020 on, float16 for
    older ones, float32 for a CPU. The LoRA itself is always float32."""

    attention_mechanism: AttentionMechanism = setting("sdp", label="Attention")
    """Attention implementation. sdp: torch's own kernels, fast on most machines;
    xformers and flash (FLUX only) need these packages and an NVIDIA GPU."""

    compile: Flag = setting(False, label="Compile transformer blocks")
    """Compile the blocks of the model at the start: takes some minutes once, then steps
    are faster. Needs Triton on a GPU, a C++ compiler on a CPU."""
