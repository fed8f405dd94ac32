"""Validation, samples and measurements during a run."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from .._base import Count, Flag, Number, StrictModel, setting
from ..enums import TrackerName
from ..interval import Interval
from ..parts import Sample

__all__ = ["WatchingSettings"]


class WatchingSettings(StrictModel):
    """Validation, samples and measurements during a run."""

    validate_every: Interval = setting(0, label="Validate every")
    """Interval between validations, such as 250 (steps), "2 epochs" or "10 minutes". 0
    disables validation.
    """

    validation_timesteps_per_picture: Annotated[Count, Field(ge=1, le=1000)] = setting(
        4, label="Validation timesteps per image"
    )
    """Number of timesteps for which the loss of each validation image is computed. With
    more timesteps, the validation loss is less noisy, but validation takes longer.
    """

    early_stop_patience: Count = setting(0, label="Early stop patience")
    """Number of consecutive validations without improvement after which training stops.
    The LoRA with the lowest validation loss is saved as NAME-best. 0 disables early
    stopping.
    """

    early_stop_min_delta: Annotated[Number, Field(ge=0, le=100)] = setting(
        0.0, label="Early stop min delta"
    )
    """Minimum decrease of the validation loss that is regarded as an improvement."""

    sample_every: Interval = setting(0, label="Sample every")
    """Interval between sample images, such as 250 (steps), "2 epochs" or "10 minutes".
    They are also generated before the first step and after the last one. If 0, samples
    are only generated on request (stiefel-lora tell sample)."""

    samples: tuple[Sample, ...] = setting((), label="Samples")
    """Prompts and settings of sample images."""

    sample_prompt_weights: Flag = setting(False, label="Weights in prompts")
    """Use weights in sample prompts as A1111: (word:1.2), (word) and [word]. Write a
    backslash in front of brackets that are text. Only for SD 1.5 and SDXL.
    """

    rank_every: Interval | None = setting(
        None,
        label="Measure ranks every",
        unset_means="a fortieth of the run, at least 5",
    )
    """Interval between measurements of the effective rank of every block, such as 50
    (steps), "1 epoch" or "10 minutes". If 0, the rank is only measured at the end."""

    trackers: tuple[TrackerName, ...] = setting(("tensorboard",), label="Trackers")
    """Programs to which losses, ranks, samples and the finished LoRA are logged. All
    values are also written to events.jsonl."""

    tracker_project: Annotated[str, Field(min_length=1, max_length=120)] = setting(
        "stiefel-lora", label="Tracker project"
    )
    """Project of the runs in wandb, trackio and other trackers except for TensorBoard.
    """

    all_block_charts: Flag = setting(False, label="All charts of blocks")
    """Log the stable rank, orthogonality and DoRA magnitude change of every block to
    the trackers, besides its effective rank. They are always in events.jsonl."""
