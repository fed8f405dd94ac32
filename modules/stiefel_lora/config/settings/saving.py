"""Checkpoints, and the files of the finished LoRA."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from .._base import Count, Flag, StrictModel, setting
from ..enums import DType, OutputFormat
from ..interval import Interval

__all__ = ["SavingSettings"]


class SavingSettings(StrictModel):
    """Checkpoints, and the files of the finished LoRA."""

    checkpoint_every: Interval = setting(0, label="Checkpoint every")
    """Interval between checkpoints, from which a run can be resumed, such as 250
    (steps), "2 epochs" or "10 minutes". If 0, a checkpoint is only saved at the end of
    the run or when it is stopped.
    """

    keep_checkpoints: Annotated[Count, Field(ge=1, le=1000)] = setting(
        3, label="Checkpoints kept"
    )
    """Number of checkpoints to keep. Older checkpoints are deleted."""

    save_every: Interval = setting(0, label="Save every")
    """Interval between LoRA files during training, such as 250 (steps), "2 epochs" or
    "10 minutes". The files are called NAME-step-N. If 0, the LoRA is only saved at the
    end of the run and on request.
    """

    keep_saved: Annotated[Count, Field(ge=1, le=10_000)] | None = setting(
        None, label="Saved files kept", unset_means="all"
    )
    """Number of steps of which the files of save_every are kept. Older ones are
    deleted, but never the finished LoRA, the best one, or files saved on request."""

    output_formats: Annotated[tuple[OutputFormat, ...], Field(min_length=1)] = setting(
        (
            "kohya",
            "peft",
        ),
        label="Output formats",
    )
    """File formats of the finished LoRA. ComfyUI, Forge and others load kohya files,
    and diffusers loads peft files."""

    save_without_ema: Flag = setting(False, label="Save without EMA")
    """If ema is used, also save the LoRA without averaging, as NAME_without_ema."""

    output_dtype: DType = setting("float16", label="Output data type")
    """Data type of the weights in the LoRA file."""

    extra_output_dtypes: tuple[DType, ...] = setting(
        (), label="Additional output data types"
    )
    """Data types in which each LoRA file is also saved, as NAME_float32 for example."""
