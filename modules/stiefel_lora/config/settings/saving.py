"""Checkpoints to resume from, and the files of the finished LoRA."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from .._base import Count, Flag, StrictModel, setting
from ..enums import DType, OutputFormat

__all__ = ["SavingSettings"]


class SavingSettings(StrictModel):
    """Checkpoints to resume from, and the files of the finished LoRA."""

    checkpoint_every: Count = setting(0, label="Checkpoint every")
    """Steps between two checkpoints to resume from. 0: only when a run stops or
    ends."""

    keep_checkpoints: Annotated[Count, Field(ge=1, le=1000)] = setting(
        3, label="Checkpoints kept"
    )
    """Number of most recent checkpoints to keep on disk."""

    output_formats: Annotated[tuple[OutputFormat, ...], Field(min_length=1)] = setting(
        (
            "kohya",
            "peft",
        ),
        label="Output formats",
    )
    """File formats of the finished LoRA. kohya: ComfyUI, Forge and others; peft:
    diffusers."""

    save_without_ema: Flag = setting(False, label="Save without EMA")
    """With ema: also save the LoRA that was not averaged, as NAME_without_ema."""

    output_dtype: DType = setting("float16", label="Output data type")
    """Precision of the numbers in the LoRA file."""
