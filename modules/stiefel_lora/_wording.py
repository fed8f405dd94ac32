"""Singular and plural forms in messages."""

from __future__ import annotations

import re

__all__ = ["counted", "printable"]


# C0 without tab and line feed, delete, and C1.
_CONTROL = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f]")


def counted(count: int, one: str, many: str) -> str:
    """Return a count with the singular or plural form of a text.

    >>> counted(1, "image is", "images are"), counted(2, "image is", "images are")
    ('1 image is', '2 images are')
    """
    return f"{count} {one if count == 1 else many}"


def printable(text: str) -> str:
    r"""Return a text whose control characters are written as escapes.

    Texts from files could otherwise change the colors or the title of a terminal, or
    hide lines. Line breaks and tabs are kept.

    >>> print(printable("a\x1b[31mb"))
    a\x1b[31mb
    """
    return _CONTROL.sub(lambda found: f"\\x{ord(found[0]):02x}", text)
