"""LoRA settings: layers, rank, alpha and initialization."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from .._base import Count, Flag, Number, PathText, StrictModel, setting
from ..enums import LayerPreset, LoraInit
from ..interval import Interval

__all__ = ["LoraSettings"]

Probability = Annotated[Number, Field(ge=0, lt=1)]
Rate = Annotated[Number, Field(gt=0, le=100)]


class LoraSettings(StrictModel):
    """LoRA settings: layers, rank, alpha and initialization."""

    layer_filter_preset: LayerPreset = setting("attn-mlp", label="Layer preset")
    """Layers of the UNet or transformer to which a LoRA is added. attn-only selects the
    attention layers, attn-mlp the attention and feed-forward layers (recommended), and
    full all linear layers.
    """

    layer_filter: tuple[Annotated[str, Field(min_length=1)], ...] = setting(
        (), label="Layer filter"
    )
    """Names of the layers to which a LoRA is added, instead of layer_filter_preset.
    Each entry is a full name, in which * matches any text, such as *.attn2.to_k, or a
    part of a name. Every entry must match at least one layer.
    """

    train_text_encoder: Flag = setting(False, label="Train text encoder")
    """Also train a LoRA on the first text encoder (CLIP). Captions are then encoded in
    every step, which is slower and needs more memory.
    """

    text_encoder_learning_rate: Rate | None = setting(
        None, label="Text encoder learning rate", unset_means="learning_rate"
    )
    """Learning rate for the LoRA of the first text encoder."""

    text_encoder_stop_training_after: Interval = setting(
        0, label="Text encoder stop training after"
    )
    """Number of steps after which the LoRA of the first text encoder is no longer
    trained, or a text such as "2 epochs". 0 trains it to the end.
    """

    train_text_encoder_2: Flag = setting(False, label="Train text encoder 2")
    """Also train a LoRA on the second text encoder, which is OpenCLIP bigG for SDXL and
    T5 for FLUX. T5 is large, and diffusers does not support LoRA for T5.
    """

    text_encoder_2_learning_rate: Rate | None = setting(
        None, label="Text encoder 2 learning rate", unset_means="learning_rate"
    )
    """Learning rate for the LoRA of the second text encoder."""

    text_encoder_2_stop_training_after: Interval = setting(
        0, label="Text encoder 2 stop training after"
    )
    """Number of steps after which the LoRA of the second text encoder is no longer
    trained, or a text such as "2 epochs". 0 trains it to the end.
    """

    lora_rank: Annotated[Count, Field(ge=1, le=4096)] = setting(16, label="LoRA rank")
    """Rank of the LoRA. A higher rank gives more capacity and a larger file."""

    rank_pattern: dict[
        Annotated[str, Field(min_length=1)], Annotated[Count, Field(ge=1, le=4096)]
    ] = setting(default_factory=dict, label="Rank pattern")
    """Layers with a different rank, such as {"mid_block.*": 32}. Each key is a full
    name, in which * matches any text, or a part of a name, and must match at least one
    layer. If several keys match a layer, the last one is used. The ratio of alpha and
    rank is the same as in other layers.
    """

    conv_rank: Annotated[Count, Field(ge=1, le=4096)] | None = setting(
        None, label="Convolution rank", unset_means="linear layers only"
    )
    """Rank of convolutions for SDXL and SD 1.5 (kohya's conv_dim). 1x1 convolutions use
    lora_rank. If set, the preset includes the convolutions of residual blocks and
    samplers."""

    lora_alpha: Annotated[Number, Field(gt=0, le=1e6)] | None = setting(
        None,
        label="LoRA alpha",
        unset_means="the rank",
    )
    """Alpha of the LoRA. The update of a layer is multiplied by alpha / rank. For
    Stiefel LoRA and other methods that control the scale, alpha must be equal to the
    rank.
    """

    use_dora: Flag = setting(False, label="Decompose weights (DoRA)")
    """Also train the magnitude of every row of the adapted weights (DoRA). This is
    slower, needs more memory, and fewer programs can load the files."""

    scale_weight_norms: Annotated[Number, Field(ge=0, le=1e6)] = setting(
        0.0, label="Scale weight norms"
    )
    """Maximum norm of the update of each layer (max norm regularization). Larger
    updates are scaled down to it after every step. A value of 1 is usual for AdamW, and
    0 disables it.
    """

    lora_dropout: Probability = setting(0.0, label="LoRA dropout")
    """Probability with which each value between the factors A and B is set to 0 in a
    step, against overfitting. 0 disables it. It is not used for validation and samples.
    """

    rank_dropout: Probability = setting(0.0, label="Rank dropout")
    """Probability with which each rank of a layer is disabled for an image in a step.
    Values from 0.1 to 0.3 are usual, and 0 disables it."""

    module_dropout: Probability = setting(0.0, label="Module dropout")
    """Probability with which the LoRA of a layer is disabled in a step. Values from 0.1
    to 0.3 are usual, and 0 disables it."""

    lora_model_name: tuple[PathText, ...] = setting((), label="LoRA base model")
    """LoRA files to start from instead of a new LoRA. Several files are added, each
    with an optional weight, such as style.safetensors:0.7. All common key formats and
    any rank are supported. If the rank is higher than lora_rank, the smallest singular
    values are removed, and the error is printed. Unlike with resume, the state of the
    optimizer is not loaded.
    """

    lora_init: LoraInit = setting("auto", label="LoRA initialization")
    """Initialization of the LoRA. With auto, the initialization of the optimizer is
    used. With loi, the LoRA is initialized from the gradient of the first images, and
    the LoRA file has up to twice the rank. Both do not change the model before
    training. With stella, the initialization of the StelLA paper is used, which changes
    the model.
    """

    loi_batches: Annotated[Count, Field(ge=1, le=1000)] = setting(
        4, label="LOI batches"
    )
    """Number of batches from which the gradient for lora_init loi is computed. Each
    batch is used 12 times before training.
    """

    loi_file_rank: Annotated[Count, Field(ge=1, le=8192)] | None = setting(
        None,
        label="LOI file rank",
        unset_means="twice lora_rank",
    )
    """Rank of the LoRA file if lora_init is loi. The file is exact with twice
    lora_rank. For a lower rank, the approximation error is printed.
    """
