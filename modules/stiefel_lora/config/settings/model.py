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
"""Parts of a model that may come from elsewhere. Each has its ``<part>_model_name``."""

PartName = PathText | None


class ModelSettings(StrictModel):
    """The base model, its weights and its precision."""

    model_type: ModelType = setting(DEFAULT, label="Model type")
    """Family of the base model. Use flux for FLUX.1 dev and schnell."""

    base_model_name: PathText | None = setting(None, label="Base model")
    """Path of a .safetensors checkpoint or of a diffusers folder, or a name
    on the Hugging Face Hub such as stabilityai/stable-diffusion-xl-base-1.0."""

    unet_model_name: PartName = setting(None, label="UNet override")
    """UNet to use instead of the base model's, for SDXL and SD 1.5. Like all parts, it
    can be a .safetensors file, a folder or a hub name."""

    transformer_model_name: PartName = setting(None, label="Transformer override")
    """Transformer to use instead of the base model's, for FLUX."""

    vae_model_name: PartName = setting(None, label="VAE override")
    """VAE to use instead of the base model's. Required if the base model file has
    none."""

    text_encoder_model_name: PartName = setting(None, label="Text encoder override")
    """CLIP text encoder to use instead of the base model's. Required if the base model
    file has none."""

    text_encoder_2_model_name: PartName = setting(None, label="Text encoder 2 override")
    """Second text encoder to use instead of the base model's: OpenCLIP bigG for SDXL,
    T5 for FLUX. Required if the base model file has none."""

    tokenizer_2_model_name: PartName = setting(None, label="Tokenizer 2 override")
    """Folder or hub name of the T5 tokenizer, for FLUX. A .safetensors file does not
    contain the tokenizer."""

    allow_pickled_weights: Flag = setting(False, label="Allow pickled weights")
    """Load weights from .bin files if the folder of a part has no .safetensors file.
    Only tensors are unpickled. Enable this only for sources that you trust."""

    prediction_type: PredictionType = setting("auto", label="Prediction type")
    """Prediction type of an SDXL or SD 1.5 model. auto reads it from the configuration
    or file of the model. If the file of a v-prediction model does not declare it, set
    v_prediction."""

    text_encoder_2_sequence_length: Annotated[Count, Field(ge=16, le=512)] | None = (
        setting(
            None,
            label="Text encoder 2 sequence length",
            unset_means="512 for dev, 256 for schnell, as these were trained",
        )
    )
    """Number of T5 tokens per caption, for FLUX. A lower number is faster and takes
    less disk space."""

    weight_dtype: WeightDType = setting("bfloat16", label="Weight data type")
    """Precision of the frozen base model in memory. nfloat4 and int8 use a quarter and
    half of the memory of bfloat16, and require bitsandbytes."""

    train_dtype: DType = setting("bfloat16", label="Train data type")
    """Precision of the computation. Use bfloat16 for NVIDIA GPUs from 2020 on, float16
    for older ones and float32 for a CPU. The LoRA itself is always float32."""

    attention_mechanism: AttentionMechanism = setting("sdp", label="Attention")
    """Attention implementation. sdp uses the kernels of torch, which are fast on
    most machines. xformers and flash (FLUX only) require these packages and an
    NVIDIA GPU."""

    compile: Flag = setting(False, label="Compile transformer blocks")
    """Compile the blocks of the model at the start. This takes some minutes once, but
    makes each step faster. It requires Triton on a GPU and a C++ compiler on a CPU."""
