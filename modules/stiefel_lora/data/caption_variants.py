"""Captions that change from one visit of a picture to the next.

What a visit gets depends on the picture and the visit's number alone: two runs, or a
run and its resumed half, agree without talking to each other.
"""

from __future__ import annotations

import random
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from ..config import Concept
    from .folder import Picture

__all__ = ["caption_at", "caption_variants", "is_dropped", "variation_count"]

_VARIATIONS, _MOST_LINES = 8, 64


def variation_count(concept: Concept, captions: int) -> int:
    """How many versions of a picture's caption are encoded."""
    if concept.text_variations is not None:
        return concept.text_variations
    if concept.enable_tag_shuffling or concept.tag_dropout_probability:
        return _VARIATIONS
    return min(captions, _MOST_LINES)


def is_dropped(picture: Picture, number: int) -> bool:
    """Whether visit ``number`` of a picture has an empty caption."""
    rate = picture.concept.caption_dropout_rate
    return rate > 0 and random.Random(f"{picture.path.name}/{number}").random() < rate


def caption_at(picture: Picture, number: int) -> str:
    """Version ``number`` of a picture's caption, dropout of all of it left aside."""
    captions, concept = picture.captions, picture.concept
    caption = captions[number % len(captions)]
    if not concept.enable_tag_shuffling and not concept.tag_dropout_probability:
        return caption
    parts = (part.strip() for part in caption.split(concept.tag_delimiter))
    # Trailing and doubled delimiters leave empty parts, which are no tags.
    tags = [tag for tag in parts if tag]
    chance = random.Random(f"{caption}/{number}")
    kept, others = tags[: concept.keep_tags_count], tags[concept.keep_tags_count :]
    if concept.enable_tag_shuffling:
        chance.shuffle(others)
    rate = concept.tag_dropout_probability
    kept += [tag for tag in others if not (rate and chance.random() < rate)]
    blank = "" if concept.tag_delimiter.isspace() else " "
    return f"{concept.tag_delimiter}{blank}".join(kept)


def caption_variants(picture: Picture) -> list[str]:
    """All texts that visits of a picture may get, each once."""
    count = variation_count(picture.concept, len(picture.captions))
    texts = [caption_at(picture, number) for number in range(count)]
    empty = [""] if picture.concept.caption_dropout_rate else []
    return list(dict.fromkeys(texts + empty))
