"""Which layers get a LoRA, its rank, and where it starts."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from .._base import Count, Flag, Number, StrictModel, setting
from ..enums import LayerPreset, LoraInit

__all__ = ["LoraSettings"]

Rate = Annotated[Number, Field(gt=0, le=100)]


class LoraSettings(StrictModel):
    """Which layers get a LoRA, its rank, and where it starts."""

    layer_filter_preset: LayerPreset = setting("attn-mlp", label="Layer preset")
    """Layers of the UNet or transformer that get a LoRA. attn-only: attention;
    attn-mlp: attention and feed-forward, the usual choice; full: all linear layers."""

    layer_filter: tuple[Annotated[str, Field(min_length=1)], ...] = setting(
        (), label="Layer filter"
    )
    """In place of the preset: whole names of layers with * for any letters, such as
    *.attn2.to_k, or pieces of names. One that matches no layer is an error."""

    train_text_encoder: Flag = setting(False, label="Train text encoder")
    """Train a LoRA on the first text encoder (CLIP) too. Captions then go through it at
    every step, which is slower, and it stays in memory."""

    text_encoder_learning_rate: Rate | None = setting(
        None, label="Text encoder learning rate", unset_means="learning_rate"
    )
    """Learning rate of the first text encoder's LoRA."""

    train_text_encoder_2: Flag = setting(False, label="Train text encoder 2")
    """Train a LoRA on the second text encoder too: OpenCLIP bigG of SDXL, T5 of FLUX,
    which is large and which diffusers does not load."""

    text_encoder_2_learning_rate: Rate | None = setting(
        None, label="Text encoder 2 learning rate", unset_means="learning_rate"
    )
    """Learning rate of the second text encoder's LoRA."""

    lora_rank: Annotated[Count, Field(ge=1, le=4096)] = setting(16, label="LoRA rank")
    """Rank of the LoRA: how much it can hold, and how large its file gets."""

    rank_pattern: dict[
        Annotated[str, Field(min_length=1)], Annotated[Count, Field(ge=1, le=4096)]
    ] = setting(default_factory=dict, label="Rank pattern")
    """Layers with another rank, such as {"mid_block.*": 32}: whole names with * for any
    letters, or pieces of names; the last one that matches counts. alpha follows. One
    that matches no layer is an error."""

    conv_rank: Annotated[Count, Field(ge=1, le=4096)] | None = setting(
        None, label="Convolution rank", unset_means="linear layers alone"
    )
    """Rank of convolutions (of one pixel: lora_rank), for SDXL and SD 1.5. Set: the
    preset has those of residual blocks and samplers too (kohya's conv_dim)."""

    lora_alpha: Annotated[Number, Field(gt=0, le=1e6)] | None = setting(
        None,
        label="LoRA alpha",
        unset_means="the rank",
    )
    """Scale of the LoRA: alpha / rank multiplies it. Stiefel LoRA needs the rank."""

    use_dora: Flag = setting(False, label="Decompose weights (DoRA)")
    """Train the length of every row of the adapted weights beside the LoRA (DoRA).
    Slower, needs more memory, and fewer programs read its files."""

    lora_init: LoraInit = setting("auto", label="LoRA initialization")
    """Where the LoRA starts. auto: as the optimizer needs it, the model unchanged. loi:
    from the gradient of the first images, the model unchanged; its file has up to
    twice the rank. stella: StelLA's own start, which changes the model at step 0."""

    loi_batches: Annotated[Count, Field(ge=1, le=1000)] = setting(
        4, label="LOI batches"
    )
    """Batches whose gradient lora_init loi looks at, each 12 times; a larger number
    costs time once, at the start."""

    loi_file_rank: Annotated[Count, Field(ge=1, le=8192)] | None = setting(
        None,
        label="LOI file rank",
        unset_means="twice lora_rank",
    )
    """Rank of the file with lora_init loi. Twice lora_rank loses nothing; a lower one
    prints what it loses."""
