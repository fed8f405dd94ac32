"""Edits of captions as text: words and tags are added, replaced and removed."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Iterable

from ..config.trigger import with_trigger

__all__ = [
    "Edit",
    "appended",
    "prepended",
    "removed_tag",
    "renamed_tag",
    "replaced",
    "tag_counts",
    "tags_of",
    "trigger_added",
]

Edit = Callable[[str], str]
"""Function that returns an edited caption."""


def tags_of(caption: str, delimiter: str = ",") -> list[str]:
    """Return the tags of a caption, without empty ones.

    >>> tags_of("cat, , red  hat,")
    ['cat', 'red  hat']
    """
    # Trailing and doubled delimiters leave empty parts, which are not tags.
    return [tag for part in caption.split(delimiter) if (tag := part.strip())]


def tag_counts(captions: Iterable[str], delimiter: str = ",") -> dict[str, int]:
    """Count the captions that contain each tag, most frequent first.

    >>> tag_counts(["a cat, a cat, red", "red"])
    {'red': 2, 'a cat': 1}
    """
    counts: Counter[str] = Counter()
    for caption in captions:
        # Once for each caption, and in a fixed order.
        counts.update([*dict.fromkeys(tags_of(caption, delimiter))])
    return dict(counts.most_common())


def prepended(text: str, separator: str = ", ") -> Edit:
    """Put a text in front of captions. An empty caption becomes the text alone.

    >>> prepended("photo")("a cat"), prepended("photo")("")
    ('photo, a cat', 'photo')
    """
    return lambda caption: separator.join(filter(None, (text, caption)))


def appended(text: str, separator: str = ", ") -> Edit:
    """Put a text after captions. An empty caption becomes the text alone.

    >>> appended("indoors")("a cat")
    'a cat, indoors'
    """
    return lambda caption: separator.join(filter(None, (caption, text)))


def replaced(
    find: str, by: str, *, match_case: bool = False, whole_words: bool = False
) -> Edit:
    r"""Replace every occurrence of a text. Characters such as ``*`` have no meaning.

    >>> replaced("cat", "dog")("Cat, catalog")
    'dog, dogalog'
    >>> replaced("cat", "dog", whole_words=True)("a cat, catalog")
    'a dog, catalog'
    """
    pattern = re.escape(find)
    if whole_words:
        pattern = rf"(?<!\w){pattern}(?!\w)"
    found = re.compile(pattern, 0 if match_case else re.IGNORECASE)
    return lambda caption: found.sub(lambda _: by, caption)


def trigger_added(word: str, delimiter: str = ",") -> Edit:
    """Put a trigger word in front of captions that do not contain it.

    See :func:`stiefel_lora.config.trigger.with_trigger`.
    """
    return lambda caption: with_trigger(caption, word, delimiter)


def removed_tag(tag: str, delimiter: str = ",") -> Edit:
    """Remove a tag. Captions without it are not changed.

    >>> removed_tag("red")("cat, red,hat"), removed_tag("red")("cat,redhat")
    ('cat, hat', 'cat,redhat')
    """
    return renamed_tag(tag, "", delimiter)


def renamed_tag(tag: str, name: str, delimiter: str = ",") -> Edit:
    """Rename a tag. A caption that already contains the new name keeps it once.

    >>> renamed_tag("red", "blue")("cat, red, hat"), renamed_tag("a", "b")("b, a")
    ('cat, blue, hat', 'b')
    """

    def edit(caption: str) -> str:
        tags = tags_of(caption, delimiter)
        if tag not in tags:
            return caption
        new = [name if found == tag else found for found in tags]
        kept = [
            found
            for place, found in enumerate(new)
            if found and (found != name or name not in new[:place])
        ]
        blank = "" if delimiter.isspace() else " "
        return f"{delimiter}{blank}".join(kept)

    return edit
