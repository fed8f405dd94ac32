"""Random variation of the images and captions of a folder between epochs."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from ._base import Count, Flag, Number, StrictModel, setting

__all__ = ["CaptionVariation", "ImageVariation"]

Probability = Annotated[Number, Field(ge=0, le=1)]
Strength = Annotated[Number, Field(ge=0, le=1)]
Variations = Annotated[Count, Field(ge=1, le=1000)]


class CaptionVariation(StrictModel):
    """Variation of captions."""

    enable_tag_shuffling: Flag = setting(False, label="Tag shuffling")
    """Shuffle the tags of a caption, which are separated by tag_delimiter."""

    tag_delimiter: Annotated[str, Field(min_length=1, max_length=10)] = setting(
        ",", label="Tag delimiter"
    )
    """Separator between the tags of a caption."""

    keep_tags_count: Annotated[Count, Field(le=1000)] = setting(
        0, label="Keep tag count"
    )
    """Number of tags at the beginning that keep their place and are never dropped."""

    tag_dropout_probability: Probability = setting(0.0, label="Tag dropout")
    """Probability of dropping each tag."""

    caption_dropout_rate: Probability = setting(
        0.0, label="Caption dropout probability"
    )
    """Probability of training on an image with an empty caption, which trains the
    unconditional prediction that guidance needs. 0.05 to 0.1 is usual."""

    text_variations: Variations | None = setting(
        None,
        label="Text variations",
        unset_means="8 with shuffled or dropped tags, else 1",
    )
    """Number of versions of each caption that are encoded and used in turn. Dropped
    captions do not count."""


class ImageVariation(StrictModel):
    """Variation of images."""

    enable_random_flip: Flag = setting(False, label="Random flip")
    """Mirror each image every other time. Not for content with a left and a right side,
    such as faces and letters."""

    enable_crop_jitter: Flag = setting(False, label="Crop jitter")
    """Take a random crop instead of the center crop, where an image does not have the
    aspect ratio of its bucket."""

    random_brightness_max_strength: Strength = setting(0.0, label="Random brightness")
    """Make images darker or brighter by up to this fraction. 0: off."""

    random_contrast_max_strength: Strength = setting(0.0, label="Random contrast")
    """Change the contrast by up to this fraction. 0: off."""

    random_saturation_max_strength: Strength = setting(0.0, label="Random saturation")
    """Change the saturation by up to this fraction. 0: off."""

    random_hue_max_strength: Strength = setting(0.0, label="Random hue")
    """Rotate the hue by up to this fraction of half the color wheel. 0: off."""

    image_variations: Variations | None = setting(
        None,
        label="Image variations",
        unset_means="4 where anything here is random, else 1",
    )
    """Number of versions of each image that are encoded and used in turn. Each takes
    its own space on disk. Without latent_caching there is no limit.
    """
