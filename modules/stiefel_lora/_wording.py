"""Singular and plural forms in messages."""

from __future__ import annotations

import os
import re
import shlex

__all__ = ["counted", "printable", "quoted"]


_REPLACED = re.compile(r"[\"$`\\!\n]")
# C0 without tab and line feed, delete, and C1.
_CONTROL = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f]")


def counted(count: int, one: str, many: str) -> str:
    """Return a count with the singular or plural form of a text.

    >>> counted(1, "image is", "images are"), counted(2, "image is", "images are")
    ('1 image is', '2 images are')
    """
    return f"{count} {one if count == 1 else many}"


def quoted(path: str | os.PathLike[str]) -> str:
    r"""Return a path as an argument of a command that can be copied to a shell.

    >>> print(quoted("my cat.json"), quoted("a$(b).json"), quoted("-x.json"))
    "my cat.json" 'a$(b).json' "./-x.json"
    """
    text = os.fspath(path)
    if text.startswith("-"):
        text = f"./{text}"
    # What a shell replaces inside of double quotes. On Windows, only these are used.
    if os.name == "posix" and _REPLACED.search(text):
        return shlex.quote(text)
    return f'"{text}"'


def printable(text: str) -> str:
    r"""Return a text whose control characters are written as escapes.

    Texts from files could otherwise change the colors or the title of a terminal, or
    hide lines. Line breaks and tabs are kept.

    >>> print(printable("a\x1b[31mb"))
    a\x1b[31mb
    """
    return _CONTROL.sub(lambda found: f"\\x{ord(found[0]):02x}", text)
