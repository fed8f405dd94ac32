"""How pictures and captions of a folder change from one time to the next."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from ._base import Count, Flag, Number, StrictModel

__all__ = ["CaptionVariation", "PictureVariation"]

Probability = Annotated[Number, Field(ge=0, le=1)]
Strength = Annotated[Number, Field(ge=0, le=1)]
Variations = Annotated[Count, Field(ge=1, le=1000)]


class CaptionVariation(StrictModel):
    """What changes in captions."""

    enable_tag_shuffling: Flag = False
    """Shuffle the tags of a caption, which tag_delimiter separates."""

    tag_delimiter: Annotated[str, Field(min_length=1, max_length=10)] = ","
    """What separates the tags of a caption."""

    keep_tags_count: Annotated[Count, Field(le=1000)] = 0
    """How many tags at the beginning stay where they are and are never dropped."""

    tag_dropout_probability: Probability = 0.0
    """Chance of each tag to be left out."""

    caption_dropout_rate: Probability = 0.0
    """Chance of a picture to come up with an empty caption; it trains what guidance
    leads away from. 0.05 to 0.1 is usual."""

    text_variations: Variations | None = None
    """How many versions of each caption are encoded, which come up in turns. Unset: 8
    with shuffled or dropped tags, else 1. Dropped captions do not count."""


class PictureVariation(StrictModel):
    """What changes in pictures."""

    enable_random_flip: Flag = False
    """Show each picture mirrored every other time. Not for what has a left and a
    right: faces, letters."""

    enable_crop_jitter: Flag = False
    """Cut a random piece instead of the middle one, where a picture does not have the
    shape of its bucket."""

    random_brightness_max_strength: Strength = 0.0
    """Make pictures darker or brighter by up to this share. 0: off."""

    random_contrast_max_strength: Strength = 0.0
    """Change the contrast by up to this share. 0: off."""

    random_saturation_max_strength: Strength = 0.0
    """Change the saturation by up to this share. 0: off."""

    random_hue_max_strength: Strength = 0.0
    """Turn all colours by up to this share of half the colour circle. 0: off."""

    image_variations: Variations | None = None
    """How many versions of each picture are encoded, which come up in turns; each takes
    its room on the disk. Unset: 4 where anything here is random, else 1. Without
    latent_caching there is no limit."""
