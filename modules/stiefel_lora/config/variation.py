"""How images and captions of a folder change from one time to the next."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from ._base import Count, Flag, Number, StrictModel, setting

__all__ = ["CaptionVariation", "ImageVariation"]

Probability = Annotated[Number, Field(ge=0, le=1)]
Strength = Annotated[Number, Field(ge=0, le=1)]
Variations = Annotated[Count, Field(ge=1, le=1000)]


class CaptionVariation(StrictModel):
    """What changes in captions."""

    enable_tag_shuffling: Flag = setting(False, label="Tag shuffling")
    """Shuffle the tags of a caption, which tag_delimiter separates."""

    tag_delimiter: Annotated[str, Field(min_length=1, max_length=10)] = setting(
        ",", label="Tag delimiter"
    )
    """What separates the tags of a caption."""

    keep_tags_count: Annotated[Count, Field(le=1000)] = setting(
        0, label="Keep tag count"
    )
    """How many tags at the beginning stay where they are and are never dropped."""

    tag_dropout_probability: Probability = setting(0.0, label="Tag dropout")
    """Chance of each tag to be left out."""

    caption_dropout_rate: Probability = setting(
        0.0, label="Caption dropout probability"
    )
    """Chance of an image to come up with an empty caption; it trains what guidance
    leads away from. 0.05 to 0.1 is usual."""

    text_variations: Variations | None = setting(
        None,
        label="Text variations",
        unset_means="8 with shuffled or dropped tags, else 1",
    )
    """How many versions of each caption are encoded, which come up in turns. Dropped
    captions do not count."""


class ImageVariation(StrictModel):
    """What changes in images."""

    enable_random_flip: Flag = setting(False, label="Random flip")
    """Show each image mirrored every other time. Not for what has a left and a
    right: faces, letters."""

    enable_crop_jitter: Flag = setting(False, label="Crop jitter")
    """Cut a random piece instead of the middle one, where an image does not have the
    shape of its bucket."""

    random_brightness_max_strength: Strength = setting(0.0, label="Random brightness")
    """Make images darker or brighter by up to this share. 0: off."""

    random_contrast_max_strength: Strength = setting(0.0, label="Random contrast")
    """Change the contrast by up to this share. 0: off."""

    random_saturation_max_strength: Strength = setting(0.0, label="Random saturation")
    """Change the saturation by up to this share. 0: off."""

    random_hue_max_strength: Strength = setting(0.0, label="Random hue")
    """Turn all colors by up to this share of half the color circle. 0: off."""

    image_variations: Variations | None = setting(
        None,
        label="Image variations",
        unset_means="4 where anything here is random, else 1",
    )
    """How many versions of each image are encoded, which come up in turns; each takes
    its room on the disk. Without latent_caching there is no limit."""
