"""Layers that get a LoRA, its rank and its initialization."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from .._base import Count, Flag, Number, StrictModel, setting
from ..enums import LayerPreset, LoraInit

__all__ = ["LoraSettings"]

Rate = Annotated[Number, Field(gt=0, le=100)]


class LoraSettings(StrictModel):
    """Layers that get a LoRA, its rank and its initialization."""

    layer_filter_preset: LayerPreset = setting("attn-mlp", label="Layer preset")
    """Layers of the UNet or transformer that get a LoRA. attn-only selects the
    attention layers, attn-mlp the attention and feed-forward layers, which is the usual
    choice, and full all linear layers."""

    layer_filter: tuple[Annotated[str, Field(min_length=1)], ...] = setting(
        (), label="Layer filter"
    )
    """Names of the layers that get a LoRA, instead of a preset. Each entry is a full
    name, in which * matches any text, such as *.attn2.to_k, or a part of a name. An
    entry that matches no layer is an error."""

    train_text_encoder: Flag = setting(False, label="Train text encoder")
    """Also train a LoRA on the first text encoder (CLIP). Captions are then encoded at
    every step, which is slower, and the text encoder stays in memory."""

    text_encoder_learning_rate: Rate | None = setting(
        None, label="Text encoder learning rate", unset_means="learning_rate"
    )
    """Learning rate for the LoRA of the first text encoder."""

    train_text_encoder_2: Flag = setting(False, label="Train text encoder 2")
    """Also train a LoRA on the second text encoder, which is OpenCLIP bigG for SDXL and
    T5 for FLUX. T5 is large, and diffusers does not load a LoRA for it."""

    text_encoder_2_learning_rate: Rate | None = setting(
        None, label="Text encoder 2 learning rate", unset_means="learning_rate"
    )
    """Learning rate for the LoRA of the second text encoder."""

    lora_rank: Annotated[Count, Field(ge=1, le=4096)] = setting(16, label="LoRA rank")
    """Rank of the LoRA. A higher rank gives more capacity and a larger file."""

    rank_pattern: dict[
        Annotated[str, Field(min_length=1)], Annotated[Count, Field(ge=1, le=4096)]
    ] = setting(default_factory=dict, label="Rank pattern")
    """Layers with a different rank, such as {"mid_block.*": 32}. Each key is a full
    name, in which * matches any text, or a part of a name. If several keys match, the
    last one is used. alpha is set to the rank of the layer. An entry that matches no
    layer is an error."""

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
    """Scaling factor of the LoRA, which is multiplied by alpha / rank. For Stiefel
    LoRA, alpha must be equal to the rank."""

    use_dora: Flag = setting(False, label="Decompose weights (DoRA)")
    """Also train the magnitude of every row of the adapted weights (DoRA). This is
    slower, needs more memory, and fewer programs can load the files."""

    lora_init: LoraInit = setting("auto", label="LoRA initialization")
    """Initialization of the LoRA. auto uses the initialization of the optimizer and
    leaves the model unchanged at first. loi uses the gradient of the first images. It
    also leaves the model unchanged at first, and the file has up to twice the rank.
    stella uses the initialization of StelLA, which changes the model at step 0.
    """

    loi_batches: Annotated[Count, Field(ge=1, le=1000)] = setting(
        4, label="LOI batches"
    )
    """Number of batches that are used, 12 times each, to compute the gradient for
    lora_init loi. More batches take more time once, at the start."""

    loi_file_rank: Annotated[Count, Field(ge=1, le=8192)] | None = setting(
        None,
        label="LOI file rank",
        unset_means="twice lora_rank",
    )
    """Rank of the LoRA file if lora_init is loi. Twice lora_rank is exact. For a lower
    rank, the approximation error is printed."""
