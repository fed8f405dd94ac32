"""The trigger word in captions and prompts."""

from __future__ import annotations

import re
from typing import Annotated

from pydantic import AfterValidator, StringConstraints
from pydantic_core import PydanticCustomError

__all__ = ["PLACEHOLDER", "TriggerWord", "has_trigger", "with_trigger"]

# Part of words in Persian and Indic scripts, and of emoji.
_JOINERS = {0x200C: None, 0x200D: None}
PLACEHOLDER = "[trigger]"
"""Text that is replaced by the trigger word, as in ai-toolkit."""


def has_trigger(text: str, word: str) -> bool:
    """Return whether ``text`` contains the trigger word, in any case, as whole words.

    >>> has_trigger("Photo of OHWX.", "ohwx"), has_trigger("ohwxman", "ohwx")
    (True, False)
    """
    return bool(re.search(rf"(?i)(?<!\w){re.escape(word)}(?!\w)", text))


def with_trigger(text: str, word: str | None, delimiter: str = ",") -> str:
    """Replace the placeholder by the trigger word, or else prepend the word if missing.

    Args:
        text: a caption or prompt.
        word: the trigger word. Without one, the placeholder is removed.
        delimiter: separator of tags, which also separates the word from the text.

    >>> with_trigger("a cat", "ohwx"), with_trigger("a [trigger] cat", "ohwx")
    ('ohwx, a cat', 'a ohwx cat')
    """
    if PLACEHOLDER in text:
        if word:
            return text.replace(PLACEHOLDER, word)
        return _without_gaps(text.replace(PLACEHOLDER, ""), delimiter)
    if not word or has_trigger(text, word):
        return text
    blank = "" if delimiter.isspace() else " "
    return f"{word}{delimiter}{blank}{text}" if text.strip() else word


def _without_gaps(text: str, delimiter: str) -> str:
    """Remove the doubled spaces and the empty tag that a removed word leaves."""
    if delimiter.isspace():
        return " ".join(text.split())
    tags = [" ".join(tag.split()) for tag in text.split(delimiter)]
    return f"{delimiter} ".join(tag for tag in tags if tag)


def _usable(word: str) -> str:
    if PLACEHOLDER in word:
        problem = f"must not contain {PLACEHOLDER}, which stands for the word itself"
        raise PydanticCustomError("trigger", "{problem}", {"problem": problem})
    if not word.translate(_JOINERS).isprintable():
        problem = "must not contain line breaks, tabs or control characters"
        raise PydanticCustomError("trigger", "{problem}", {"problem": problem})
    return word


TriggerWord = Annotated[
    str,
    StringConstraints(strip_whitespace=True, min_length=1, max_length=200),
    AfterValidator(_usable),
]
"""One or several words, without surrounding spaces."""
