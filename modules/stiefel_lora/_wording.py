"""Agreement of a count with noun and verb in messages about files."""

from __future__ import annotations

__all__ = ["counted"]


def counted(count: int, one: str, many: str) -> str:
    """Combine a count with the words that agree with it.

    >>> counted(1, "image is", "images are"), counted(2, "image is", "images are")
    ('1 image is', '2 images are')
    """
    return f"{count} {one if count == 1 else many}"
