"""Base model, its components and precision."""

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
"""Components with a setting ``<component>_model_name``."""

PartName = PathText | None


class ModelSettings(StrictModel):
    """Base model, its components and precision."""

    model_type: ModelType = setting(DEFAULT, label="Model type")
    """Family of the base model. Use flux for FLUX.1 dev and schnell."""

    base_model_name: PathText | None = setting(None, label="Base model")
    """Base model: path of a .safetensors checkpoint or diffusers folder, or name of a
    model on the Hugging Face Hub, such as stabilityai/stable-diffusion-xl-base-1.0.
    """

    unet_model_name: PartName = setting(None, label="UNet override")
    """UNet that replaces the UNet of the base model, for SDXL and SD 1.5. Path of a
    .safetensors file or folder, or name on the Hugging Face Hub.
    """

    transformer_model_name: PartName = setting(None, label="Transformer override")
    """Transformer that replaces the transformer of the base model, for FLUX. Path of a
    .safetensors file or folder, or name on the Hugging Face Hub.
    """

    vae_model_name: PartName = setting(None, label="VAE override")
    """VAE that replaces the VAE of the base model. Required if the base model file does
    not contain a VAE.
    """

    text_encoder_model_name: PartName = setting(None, label="Text encoder override")
    """CLIP text encoder that replaces the text encoder of the base model. Required if
    the base model file does not contain it.
    """

    text_encoder_2_model_name: PartName = setting(None, label="Text encoder 2 override")
    """Second text encoder that replaces the base model's: OpenCLIP bigG for SDXL, T5
    for FLUX. Required if the base model file does not contain it.
    """

    tokenizer_2_model_name: PartName = setting(None, label="Tokenizer 2 override")
    """T5 tokenizer for FLUX: path of a folder or name on the Hugging Face Hub. Required
    if the base model is a .safetensors file, which does not contain a tokenizer.
    """

    allow_pickled_weights: Flag = setting(False, label="Allow pickled weights")
    """Load weights from .bin files if a folder contains no .safetensors file. Only
    tensors are unpickled. Enable this only for models from trusted sources.
    """

    prediction_type: PredictionType = setting("auto", label="Prediction type")
    """Prediction type of an SDXL or SD 1.5 model. auto reads it from the model. For
    v-prediction models whose file does not contain the prediction type, set
    v_prediction.
    """

    zero_terminal_snr: Flag = setting(False, label="Zero-terminal SNR")
    """Rescale the noise schedule of a v-prediction model so that its highest noise
    level contains no signal, for training and samples. Only needed if the model was
    trained in this way and its file does not contain this property.
    """

    text_encoder_2_sequence_length: Annotated[Count, Field(ge=16, le=512)] | None = (
        setting(
            None,
            label="Text encoder 2 sequence length",
            unset_means="512 for FLUX.1 dev, 256 for FLUX.1 schnell",
        )
    )
    """Number of T5 tokens per caption, for FLUX. A lower number is faster and takes
    less disk space."""

    text_encoder_layer_skip: Annotated[Count, Field(le=11)] = setting(
        0, label="Clip skip"
    )
    """Number of additional layers of the first text encoder that are skipped, for SD
    1.5 and SDXL. 0 is the layer that the model was trained with: the last one for SD
    1.5, and the second to last one for SDXL. 1 is clip_skip 2 of sd-scripts and A1111
    for SD 1.5.
    """

    text_encoder_2_layer_skip: Annotated[Count, Field(le=30)] = setting(
        0, label="Clip skip 2"
    )
    """Number of additional layers of the second text encoder that are skipped, for
    SDXL. 0 is the second to last layer.
    """

    max_token_length: Annotated[
        int, Field(strict=True, ge=75, le=225, multiple_of=75)
    ] = setting(75, label="Maximum token length")
    """Number of CLIP tokens of a caption, for SD 1.5 and SDXL. Longer captions are cut.
    Use 75, 150 or 225. With 150 and 225, captions are encoded in two or three chunks of
    75 tokens.
    """

    weighted_captions: Flag = setting(False, label="Weighted captions")
    """Use weights in captions as sd-scripts: (word:1.2), (word) and [word]. Write a
    backslash in front of brackets that are text. Only for SD 1.5 and SDXL.
    """

    weight_dtype: WeightDType = setting("bfloat16", label="Weight data type")
    """Data type of the frozen base model. nfloat4 needs a quarter and int8 half of the
    memory of bfloat16. Both require bitsandbytes.
    """

    train_dtype: DType = setting("bfloat16", label="Train data type")
    """Data type of the computation. Use bfloat16 for NVIDIA GPUs since 2020, float16
    for older ones and float32 for CPUs. The LoRA weights are always float32.
    """

    attention_mechanism: AttentionMechanism = setting("sdp", label="Attention")
    """Attention implementation. sdp uses the kernels of torch, which are fast on
    most machines. xformers and flash (FLUX only) require these packages and an
    NVIDIA GPU."""

    compile: Flag = setting(False, label="Compile transformer blocks")
    """Compile the blocks of the model with torch.compile. This takes some minutes at
    the start, but each step is faster. Requires Triton on a GPU and a C++ compiler on a
    CPU.
    """

    shard_base_model: Flag = setting(False, label="Shard base model")
    """Divide the denoiser among the processes of a training on several GPUs (FSDP2), so
    that each GPU holds only a part of its weights. Requires several processes.
    """
