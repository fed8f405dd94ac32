"""The file name extension of captions."""

from __future__ import annotations

import re
from typing import Annotated

from pydantic import AfterValidator, StringConstraints
from pydantic_core import PydanticCustomError

__all__ = ["TEXT", "CaptionExtension", "with_dot"]

TEXT = ".txt"
"""The default."""

_FORBIDDEN = re.compile(r'[<>:"/\\|?*\x00-\x1f]|\.\.|[. ]$')
_IMAGES = frozenset(
    {
        *(".apng", ".avif", ".bmp", ".gif", ".heic", ".heif", ".jfif", ".jpeg"),
        *(".jpg", ".png", ".tif", ".tiff", ".webp"),
    }
)


def with_dot(text: str) -> str:
    """Return an extension with its dot.

    >>> with_dot("caption"), with_dot(".wd.txt")
    ('.caption', '.wd.txt')

    Raises:
        ValueError: If it is not an extension of text files.
    """
    found = text if text.startswith(".") else f".{text}"
    if _FORBIDDEN.search(found):
        raise ValueError("must be a file name extension such as .caption")
    if found.lower() in _IMAGES:
        raise ValueError("must be the extension of text files, not of images")
    return found


def _checked(text: str) -> str:
    try:
        return with_dot(text)
    except ValueError as error:
        found = {"problem": str(error)}
        raise PydanticCustomError("extension", "{problem}", found) from None


CaptionExtension = Annotated[
    str,
    StringConstraints(strip_whitespace=True, min_length=1, max_length=30),
    AfterValidator(_checked),
]
"""Extension with its dot, which is added if it is missing."""
