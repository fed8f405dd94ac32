"""Processing of training and validation images.

This module does not import torch, so that previews show the images of training.
"""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING

from .._prompt_weights import WeightedPrompt, read_weights
from ..config.alpha_background import WHITE
from .augmentation import Augmentation, augmentation_at, augmentation_count
from .buckets import Buckets, buckets_of
from .caption_variants import caption_at, is_dropped, plain_caption, variation_count
from .framing import cover_frame

if TYPE_CHECKING:
    from ..config import TrainConfig
    from .entry import Entry
    from .folder import CaptionedImage

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
    background: str = WHITE
    encodes_text: bool = True
    """Whether captions are encoded in advance: unless all text encoders are trained."""

    weighted_captions: bool = False

    def augmentation(self, entry: Entry, number: int) -> Augmentation:
        """Return the augmentation of an image when it is used the n-th time.

        Args:
            entry: image with its size and bucket.
            number: number of times that the image was used before.
        """
        found = self._augmentation(entry, number)
        if self.background == WHITE:
            return found
        return dataclasses.replace(found, background=self.background)

    def _augmentation(self, entry: Entry, number: int) -> Augmentation:
        if not self.varied:
            return Augmentation(cover_frame(entry.original, entry.size))
        image = entry.image
        if self.cached:
            # Only this many versions are cached; visits use them in turn.
            number %= augmentation_count(image.concept)
        return augmentation_at(
            image.path.name, entry.original, entry.size, image.concept, number
        )

    def caption(self, image: CaptionedImage, number: int) -> str:
        """Return the caption of an image when it is used the n-th time.

        Args:
            image: image with its captions.
            number: number of times that the image was used before.
        """
        if not self.varied:
            return plain_caption(image)
        if is_dropped(image, number):
            return ""
        if self.encodes_text:
            # As for images; captions of trained text encoders may vary without limit.
            number %= variation_count(image.concept, len(image.captions))
        return caption_at(image, number)

    def encoded_as(self, caption: str) -> str | WeightedPrompt:
        """Return a caption with its weights, if they are used."""
        if not self.weighted_captions:
            return caption
        return read_weights(caption, keeps_mean=False)


def plan_of(config: TrainConfig, *, training: bool, encodes_text: bool) -> Plan:
    """Create the plan of a configuration. Validation images are not augmented."""
    buckets = buckets_of(config)
    background = config.alpha_background
    if not training:
        return Plan(
            buckets,
            background=background,
            encodes_text=encodes_text,
            weighted_captions=config.weighted_captions,
        )
    return Plan(
        buckets=buckets,
        background=background,
        varied=True,
        cached=config.latent_caching,
        masked=config.masked_training,
        alpha_mask=config.alpha_mask,
        unmasked_probability=config.unmasked_probability,
        encodes_text=encodes_text,
        weighted_captions=config.weighted_captions,
    )
