"""Augmentation of captions: shuffling and dropping of tags, and caption dropout.

It depends only on the image and the number of times it was used, so that resuming is
exact.
"""

from __future__ import annotations

import random
from typing import TYPE_CHECKING

from ..config.trigger import has_trigger
from .caption_edits import tags_of

if TYPE_CHECKING:
    from ..config import Concept
    from .folder import CaptionedImage

__all__ = ["caption_at", "caption_variants", "is_dropped", "variation_count"]

_VARIATIONS, _MOST_LINES = 8, 64


def variation_count(concept: Concept, captions: int) -> int:
    """Return the number of versions of a caption that are encoded."""
    if concept.text_variations is not None:
        return concept.text_variations
    if concept.enable_tag_shuffling or concept.tag_dropout_probability:
        return _VARIATIONS
    return min(captions, _MOST_LINES)


def is_dropped(image: CaptionedImage, number: int) -> bool:
    """Return whether the caption of an image is empty when it is used the n-th time."""
    rate = image.concept.caption_dropout_rate
    return rate > 0 and random.Random(f"{image.path.name}/{number}").random() < rate


def caption_at(image: CaptionedImage, number: int) -> str:
    """Return version ``number`` of the caption of an image, without caption dropout."""
    captions, concept = image.captions, image.concept
    caption = captions[number % len(captions)]
    if not concept.enable_tag_shuffling and not concept.tag_dropout_probability:
        return caption
    tags = tags_of(caption, concept.tag_delimiter)
    # Seeded by the text: equal captions share their cached variants.
    chance = random.Random(f"{caption}/{number}")
    # The trigger word comes first, and keep_tags_count counts the caption's own tags.
    front = [tag for tag in tags if _is_trigger(tag, image)]
    tags = [tag for tag in tags if tag not in front] if front else tags
    kept, others = tags[: concept.keep_tags_count], tags[concept.keep_tags_count :]
    kept = [*front, *kept]
    if concept.enable_tag_shuffling:
        chance.shuffle(others)
    rate = concept.tag_dropout_probability
    kept += [tag for tag in others if not (rate and chance.random() < rate)]
    blank = "" if concept.tag_delimiter.isspace() else " "
    return f"{concept.tag_delimiter}{blank}".join(kept)


def _is_trigger(tag: str, image: CaptionedImage) -> bool:
    word = image.trigger.lower()
    # A word of several tags, or with spaces where these separate tags, is split.
    parts = {part.strip() for part in word.split(image.concept.tag_delimiter)}
    return bool(word) and (has_trigger(tag, word) or tag.lower() in parts)


def caption_variants(image: CaptionedImage) -> list[str]:
    """Return all versions of the caption of an image, without duplicates."""
    count = variation_count(image.concept, len(image.captions))
    texts = [caption_at(image, number) for number in range(count)]
    empty = [""] if image.concept.caption_dropout_rate else []
    return list(dict.fromkeys(texts + empty))
