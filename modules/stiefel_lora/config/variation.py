"""Settings of augmentation of images and captions."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from ._base import Count, Flag, Number, StrictModel, Text, setting

__all__ = ["CaptionVariation", "ImageVariation"]

Probability = Annotated[Number, Field(ge=0, le=1)]
Strength = Annotated[Number, Field(ge=0, le=1)]
Capitals = Literal["capslock", "title", "first", "random"]
Separator = Annotated[Text, Field(min_length=1, max_length=10)]
Variations = Annotated[Count, Field(ge=1, le=1000)]


class CaptionVariation(StrictModel):
    """Settings of caption augmentation."""

    enable_tag_shuffling: Flag = setting(False, label="Tag shuffling")
    """Shuffle the tags of a caption, which are separated by tag_delimiter."""

    tag_delimiter: Annotated[str, Field(min_length=1, max_length=10)] = setting(
        ",", label="Tag delimiter"
    )
    """Separator between the tags of a caption."""

    keep_tags_count: Annotated[Count, Field(le=1000)] = setting(
        0, label="Keep tag count"
    )
    """Number of tags at the beginning of a caption that are not shuffled or dropped."""

    keep_tags_separator: Separator | None = setting(None, label="Keep tags separator")
    """Text such as ||| in captions that replaces keep_tags_count: the tags in front of
    it are not shuffled or dropped, nor are those after a second one. It is removed from
    the caption.
    """

    secondary_separator: Separator | None = setting(None, label="Secondary separator")
    """Text such as ;;; between tags that stay together when tags are shuffled or
    dropped. It is then replaced by tag_delimiter.
    """

    enable_wildcard: Flag = setting(False, label="Wildcards")
    """Replace {red|blue} in captions by one of the options at random, and use one of
    the lines of a caption file at random. {{ and }} stand for braces.
    """

    tag_dropout_probability: Probability = setting(0.0, label="Tag dropout")
    """Probability of dropping each tag."""

    tag_dropout_mode: Literal["RANDOM", "RANDOM WEIGHTED", "FULL"] = setting(
        "RANDOM", label="Tag dropout mode"
    )
    """With RANDOM, each tag is dropped with the same probability. With RANDOM WEIGHTED,
    it increases from the first tag to the last one. With FULL, all tags are dropped at
    once.
    """

    tag_dropout_special_tags_mode: Literal["NONE", "WHITELIST", "BLACKLIST"] = setting(
        "NONE", label="Special tags mode"
    )
    """With WHITELIST, the special tags are never dropped. With BLACKLIST, only they are
    dropped."""

    tag_dropout_special_tags: Text = setting("", label="Special tags")
    """Tags for tag_dropout_special_tags_mode, separated by tag_delimiter."""

    tag_dropout_special_tags_regex: Flag = setting(False, label="Special tags regex")
    """Read the special tags as regular expressions for whole tags."""

    caps_randomize_probability: Probability = setting(0.0, label="Random capitals")
    """Probability of changing the capitals of each tag, except for the trigger word."""

    caps_randomize_mode: Annotated[tuple[Capitals, ...], Field(min_length=1)] = setting(
        ("capslock", "title", "first", "random"), label="Kinds of capitals"
    )
    """Kinds of capitals, one of which is used: all letters, the first letter of each
    word or of the tag, or random letters.
    """

    caps_randomize_lowercase: Flag = setting(False, label="Lower case")
    """Change captions to lower case, except for tags with the trigger word."""

    caption_dropout_rate: Probability = setting(
        0.0, label="Caption dropout probability"
    )
    """Probability of using an empty caption for an image. This trains the unconditional
    prediction, which is used for guidance. Usual values are 0.05 to 0.1.
    """

    text_variations: Variations | None = setting(
        None,
        label="Text variations",
        unset_means="8 with wildcards, or tags that vary, else 1",
    )
    """Number of versions of each caption that are encoded and used in turn. Empty
    captions of caption dropout are not included.
    """


class ImageVariation(StrictModel):
    """Settings of image augmentation."""

    enable_random_flip: Flag = setting(False, label="Random flip")
    """Flip each image horizontally every second time it is used. Do not enable this for
    asymmetric content, such as faces and text.
    """

    enable_fixed_flip: Flag = setting(False, label="Fixed flip")
    """Flip all images horizontally, unless enable_random_flip is set."""

    enable_crop_jitter: Flag = setting(False, label="Crop jitter")
    """Use a random crop instead of the center crop, if the aspect ratio of an image
    differs from that of its bucket.
    """

    enable_fixed_brightness: Flag = setting(False, label="Fixed brightness")
    """Increase the brightness by random_brightness_max_strength, instead of
    changing it randomly."""

    random_brightness_max_strength: Strength = setting(0.0, label="Random brightness")
    """Change the brightness randomly by up to this fraction. 0 disables it."""

    enable_fixed_contrast: Flag = setting(False, label="Fixed contrast")
    """Increase the contrast by random_contrast_max_strength, instead of
    changing it randomly."""

    random_contrast_max_strength: Strength = setting(0.0, label="Random contrast")
    """Change the contrast randomly by up to this fraction. 0 disables it."""

    enable_fixed_saturation: Flag = setting(False, label="Fixed saturation")
    """Increase the saturation by random_saturation_max_strength, instead of
    changing it randomly."""

    random_saturation_max_strength: Strength = setting(0.0, label="Random saturation")
    """Change the saturation randomly by up to this fraction. 0 disables it."""

    enable_fixed_hue: Flag = setting(False, label="Fixed hue")
    """Rotate the hue by random_hue_max_strength, instead of changing it randomly."""

    random_hue_max_strength: Strength = setting(0.0, label="Random hue")
    """Change the hue randomly by up to this fraction of 180 degrees. 0 disables it."""

    image_variations: Variations | None = setting(
        None,
        label="Image variations",
        unset_means="4 if any image augmentation is enabled, else 1",
    )
    """Number of versions of each image that are encoded and used in turn. Every version
    needs disk space. If latent_caching is disabled, every version is different, and
    this setting has no effect.
    """
