"""Augmentation of captions: wildcards, shuffled and dropped tags, caption dropout.

It depends only on the image and the number of times it was used, so that resuming is
exact.
"""

from __future__ import annotations

import random
from collections.abc import Collection
from typing import TYPE_CHECKING

from ..config.trigger import has_trigger
from .caption_edits import tags_of
from .tag_dropout import capitalized, remaining_tags
from .wildcards import with_choices

if TYPE_CHECKING:
    from ..config import Concept
    from .folder import CaptionedImage

__all__ = [
    "caption_at",
    "caption_variants",
    "is_dropped",
    "plain_caption",
    "variation_count",
]

_VARIATIONS = 8


def variation_count(concept: Concept, captions: int) -> int:
    """Return the number of versions of a caption that are encoded."""
    if concept.text_variations is not None:
        return concept.text_variations
    varied = _varies(concept) or concept.enable_wildcard
    # At least one version of every line of a prompt file.
    return max(_VARIATIONS, captions) if varied else captions


def is_dropped(image: CaptionedImage, number: int) -> bool:
    """Return whether the caption of an image is empty when it is used the n-th time."""
    rate = image.concept.caption_dropout_rate
    return rate > 0 and random.Random(f"{image.path.name}/{number}").random() < rate


def caption_at(image: CaptionedImage, number: int) -> str:
    """Return version ``number`` of the caption of an image, without caption dropout."""
    caption = image.captions[number % len(image.captions)]
    if image.concept.enable_wildcard:
        # Seeded by the text: equal captions share their cached variants.
        choice = random.Random(f"wildcards {caption}/{number}").choice
        caption = with_choices(caption, choice)
    return _arranged(caption, image, random.Random(f"{caption}/{number}"))


def plain_caption(image: CaptionedImage, caption: str | None = None) -> str:
    """Return a caption without variation: the first options, and all tags in order.

    Args:
        image: image with its captions.
        caption: one of its captions. The default is the first one.
    """
    caption = image.caption if caption is None else caption
    if image.concept.enable_wildcard:
        caption = with_choices(caption, lambda options: options[0])
    return _arranged(caption, image, None)


def _arranged(caption: str, image: CaptionedImage, chance: random.Random | None) -> str:
    """Shuffle and drop tags if there is a generator, and replace separators."""
    concept = image.concept
    delimiter = concept.tag_delimiter
    changed = concept.caps_randomize_lowercase or (chance and _varies(concept))
    if changed or _is_split(caption, concept):
        blank = "" if delimiter.isspace() else " "
        caption = f"{delimiter}{blank}".join(_tags(caption, image, chance))
    if concept.secondary_separator is not None:
        caption = caption.replace(concept.secondary_separator, delimiter)
    return caption


def _tags(
    caption: str, image: CaptionedImage, chance: random.Random | None
) -> list[str]:
    concept = image.concept
    kept, others, end = _parts_of(caption, concept)
    # The trigger word comes first, and keep_tags_count counts the caption's own tags.
    front = [tag for tag in (*kept, *others, *end) if _is_trigger(tag, image)]
    if front:
        kept, others, end = _parts_of(caption, concept, without=front)
    entries = list(enumerate(others))
    if chance and concept.enable_tag_shuffling:
        chance.shuffle(entries)
    drawn = [tag for _, tag in entries]
    if chance:
        drawn = remaining_tags(entries, concept, chance)
    return [*front, *(capitalized(t, concept, chance) for t in (*kept, *drawn, *end))]


def _varies(concept: Concept) -> bool:
    """Return whether tags are shuffled, dropped or capitalized at random."""
    return bool(
        concept.enable_tag_shuffling
        or concept.tag_dropout_probability
        or concept.caps_randomize_probability
    )


def _is_split(caption: str, concept: Concept) -> bool:
    separator = concept.keep_tags_separator
    return separator is not None and separator in caption


def _parts_of(
    caption: str, concept: Concept, without: Collection[str] = ()
) -> tuple[list[str], list[str], list[str]]:
    """Return the tags that are kept first, those that vary, and those kept last."""

    def tags(text: str) -> list[str]:
        return [t for t in tags_of(text, concept.tag_delimiter) if t not in without]

    if not _is_split(caption, concept):
        found, count = tags(caption), concept.keep_tags_count
        return found[:count], found[count:], []
    first, _, rest = caption.partition(str(concept.keep_tags_separator))
    middle, _, last = rest.partition(str(concept.keep_tags_separator))
    return tags(first), tags(middle), tags(last)


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
