"""Dropout and capitalization of tags, with the modes of OneTrainer."""

from __future__ import annotations

import random
import re
import string
from collections.abc import Sequence
from typing import TYPE_CHECKING

from .caption_edits import tags_of

if TYPE_CHECKING:
    from ..config import Concept

__all__ = ["capitalized", "remaining_tags"]


def remaining_tags(
    tags: Sequence[tuple[int, str]], concept: Concept, chance: random.Random
) -> list[str]:
    """Drop tags at random.

    With tag_dropout_mode RANDOM, each tag is dropped with the probability, with RANDOM
    WEIGHTED with (i + 1) / n times the probability for the i-th of n tags, and with
    FULL all of them at once. Special tags are never dropped (WHITELIST), or only they
    are (BLACKLIST).

    Args:
        tags: tags with their positions in the caption, in any order.
        concept: settings of the folder.
        chance: generator, from which a number is drawn per tag, or one with FULL.
    """
    rate = concept.tag_dropout_probability
    if not rate:
        return [tag for _, tag in tags]
    whole = concept.tag_dropout_mode == "FULL"
    weighted = concept.tag_dropout_mode == "RANDOM WEIGHTED"
    all_drop = whole and chance.random() < rate
    found = []
    for place, tag in tags:
        own = rate * (place + 1) / len(tags) if weighted else rate
        dropped = all_drop if whole else chance.random() < own
        if not dropped or _is_safe(tag, concept):
            found.append(tag)
    return found


def capitalized(tag: str, concept: Concept, chance: random.Random | None) -> str:
    """Change the capitals of a tag, with the probability of the folder.

    Args:
        tag: a tag.
        concept: settings of the folder.
        chance: generator. None to change lower case only.
    """
    text = tag.lower() if concept.caps_randomize_lowercase else tag
    rate = concept.caps_randomize_probability
    if chance is None or not rate or chance.random() >= rate:
        return text
    kind = chance.choice(concept.caps_randomize_mode)
    if kind == "capslock":
        return text.upper()
    if kind == "title":
        return string.capwords(text)
    if kind == "first":
        return text.capitalize()
    return "".join(chance.choice((c.upper(), c.lower())) for c in text)


def _is_safe(tag: str, concept: Concept) -> bool:
    """Return whether a tag is never dropped."""
    mode = concept.tag_dropout_special_tags_mode
    if mode == "NONE":
        return False
    special = tags_of(concept.tag_dropout_special_tags, concept.tag_delimiter)
    if concept.tag_dropout_special_tags_regex:
        forms = (tag, tag.strip("()"))
        listed = any(re.fullmatch(p, form) for p in special for form in forms)
    else:
        listed = tag in special
    return listed == (mode == "WHITELIST")
