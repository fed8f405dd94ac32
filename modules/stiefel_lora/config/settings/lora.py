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
    """Layers of the UNet or transformer that get a LoRA. attn-only: attention;
    attn-mlp: attention and feed-forward, the usual choice; full: all linear layers."""

    layer_filter: tuple[Annotated[str, Field(min_length=1)], ...] = setting(
        (), label="Layer filter"
    )
    """Replaces the preset: full names of layers, with * for any text, such as
    *.attn2.to_k, or parts of names. An entry that matches no layer is an error."""

    train_text_encoder: Flag = setting(False, label="Train text encoder")
    """Also train a LoRA on the first text encoder (CLIP). Captions then go through it
    at every step, which is slower, and it stays in memory."""

    text_encoder_learning_rate: Rate | None = setting(
        None, label="Text encoder learning rate", unset_means="learning_rate"
    )
    """Learning rate of the first text encoder's LoRA."""

    train_text_encoder_2: Flag = setting(False, label="Train text encoder 2")
    """Also train a LoRA on the second text encoder: OpenCLIP bigG of SDXL or T5 of
    FLUX. T5 is large, and diffusers does not load a LoRA for it."""

    text_encoder_2_learning_rate: Rate | None = setting(
        None, label="Text encoder 2 learning rate", unset_means="learning_rate"
    )
    """Learning rate of the second text encoder's LoRA."""

    lora_rank: Annotated[Count, Field(ge=1, le=4096)] = setting(16, label="LoRA rank")
    """Rank of the LoRA: its capacity, and the size of its file."""

    rank_pattern: dict[
        Annotated[str, Field(min_length=1)], Annotated[Count, Field(ge=1, le=4096)]
    ] = setting(default_factory=dict, label="Rank pattern")
    """Layers with a different rank, such as {"mid_block.*": 32}: full names, with * for
    any text, or parts of names; the last match counts. alpha follows the rank. An
    entry that matches no layer is an error."""

    conv_rank: Annotated[Count, Field(ge=1, le=4096)] | None = setting(
        None, label="Convolution rank", unset_means="linear layers only"
    )
    """Rank of convolutions (1x1 convolutions use lora_rank), for SDXL and SD 1.5. If
    set, the preset includes those of residual blocks and samplers (kohya's
    conv_dim)."""

    lora_alpha: Annotated[Number, Field(gt=0, le=1e6)] | None = setting(
        None,
        label="LoRA alpha",
        unset_means="the rank",
    )
    """The LoRA is multiplied by alpha / rank. Stiefel LoRA needs alpha equal to the
    rank."""

    use_dora: Flag = setting(False, label="Decompose weights (DoRA)")
    """Also train the magnitude of every row of the adapted weights (DoRA). Slower,
    needs more memory, and fewer programs can load its files."""

    lora_init: LoraInit = setting("auto", label="LoRA initialization")
    """Initialization of the LoRA. auto: the one of the optimizer; the model is
    unchanged at first. loi: from the gradient of the first images; the model is
    unchanged at first, and the file has up to twice the rank. stella: StelLA's own,
    which changes the model at step 0."""

    loi_batches: Annotated[Count, Field(ge=1, le=1000)] = setting(
        4, label="LOI batches"
    )
    """Number of batches whose gradient lora_init loi uses, 12 times each; more batches
    take more time once, at the start."""

    loi_file_rank: Annotated[Count, Field(ge=1, le=8192)] | None = setting(
        None,
        label="LOI file rank",
        unset_means="twice lora_rank",
    )
    """Rank of the file with lora_init loi. Twice lora_rank is exact; for a lower rank,
    the approximation error is printed."""
