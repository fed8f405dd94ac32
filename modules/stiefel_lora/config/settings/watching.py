"""Validation, samples and measurements during a run."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from .._base import Count, Number, StrictModel, setting
from ..parts import Sample

__all__ = ["WatchingSettings"]


class WatchingSettings(StrictModel):
    """Validation, samples and measurements during a run."""

    validate_every: Count = setting(0, label="Validate every")
    """Steps between two measurements of the validation loss. 0: never."""

    validation_timesteps_per_picture: Annotated[Count, Field(ge=1, le=1000)] = setting(
        4, label="Validation timesteps per image"
    )
    """Number of noise levels at which each validation image is measured; more are
    slower and less noisy."""

    early_stop_patience: Count = setting(0, label="Early stop patience")
    """Stop the run after this many validations in a row without a lower loss; the LoRA
    of the lowest loss is kept as NAME-best. 0: train to the last step."""

    early_stop_min_delta: Annotated[Number, Field(ge=0, le=100)] = setting(
        0.0, label="Early stop min delta"
    )
    """Minimum decrease of the loss that counts as lower."""

    sample_every: Count = setting(0, label="Sample every")
    """Steps between two rounds of samples, with one before the first step and one after
    the last. 0: only on request (stiefel-lora tell sample)."""

    samples: tuple[Sample, ...] = setting((), label="Samples")
    """Images to generate during training."""

    rank_every: Count | None = setting(
        None,
        label="Measure ranks every",
        unset_means="a fortieth of the run, at least 5",
    )
    """Steps between two measurements of every block's effective rank. 0: only at the
    end."""
