"""What is measured and shown while a run goes on."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from .._base import Count, Number, StrictModel
from ..parts import Sample

__all__ = ["WatchingSettings"]


class WatchingSettings(StrictModel):
    """What is measured and shown while a run goes on."""

    validate_every: Count = 0
    """Steps between two measurements of the loss on validation_concepts. 0: never."""

    validation_timesteps_per_picture: Annotated[Count, Field(ge=1, le=1000)] = 4
    """Noise levels at which each validation picture is measured; more are slower and
    less noisy."""

    early_stop_patience: Count = 0
    """Measurements on validation_concepts in a row without a lower loss that end the
    run; the LoRA of the lowest one is kept as NAME-best. 0: train to the last step."""

    early_stop_min_delta: Annotated[Number, Field(ge=0, le=100)] = 0.0
    """How much lower a loss must be to count as lower."""

    sample_every: Count = 0
    """Steps between two rounds of sample pictures, with one before the first step and
    one after the last. 0: only when ordered (stiefel-lora tell sample)."""

    samples: tuple[Sample, ...] = ()
    """Pictures to make during training."""

    rank_every: Count | None = None
    """Steps between two measurements of every block's effective rank. Unset: a fortieth
    of the run, at least 5. 0: only at the end."""
