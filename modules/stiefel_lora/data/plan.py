"""Processing of training and validation images."""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING

from .buckets import Buckets, buckets_of

if TYPE_CHECKING:
    from ..config import TrainConfig

__all__ = ["Plan", "plan_of"]


@dataclasses.dataclass(frozen=True)
class Plan:
    """Processing of images. By default, no augmentation is used."""

    buckets: Buckets
    varied: bool = False
    """Whether augmentation and weights of concepts are used."""

    cached: bool = True
    masked: bool = False
    alpha_mask: bool = False
    unmasked_probability: float = 0.0
    encodes_text: bool = True
    """Whether captions are encoded in advance: unless all text encoders are trained."""


def plan_of(config: TrainConfig, *, training: bool, encodes_text: bool) -> Plan:
    """Create the plan of a configuration. Validation images are not augmented."""
    buckets = buckets_of(config)
    if not training:
        return Plan(buckets, encodes_text=encodes_text)
    return Plan(
        buckets=buckets,
        varied=True,
        cached=config.latent_caching,
        masked=config.masked_training,
        alpha_mask=config.alpha_mask,
        unmasked_probability=config.unmasked_probability,
        encodes_text=encodes_text,
    )
