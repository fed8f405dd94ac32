"""Singular and plural forms in messages."""

from __future__ import annotations

__all__ = ["counted"]


def counted(count: int, one: str, many: str) -> str:
    """Return a count with the singular or plural form of a text.

    >>> counted(1, "image is", "images are"), counted(2, "image is", "images are")
    ('1 image is', '2 images are')
    """
    return f"{count} {one if count == 1 else many}"
