"""What an image file that cannot be used raises, and what is said of many."""

from __future__ import annotations

import struct
import zlib
from collections.abc import Sequence

from PIL import Image

from .._exceptions import DataError

__all__ = ["DAMAGE", "UnreadableImage", "check_some_readable"]

# What Pillow's decoders raise on damaged files, by what they meet first.
DAMAGE = (
    OSError,
    SyntaxError,
    ValueError,
    EOFError,
    struct.error,
    zlib.error,
    # The decoder of AVIF, and NotImplementedError of others.
    RuntimeError,
    Image.DecompressionBombError,
)


class UnreadableImage(Exception):
    """A file that cannot be decoded or used; its text is the reason.

    It never leaves ``data``.
    """


def check_some_readable(count: int, unreadable: Sequence[str]) -> None:
    """Refuse images of which not one can be used.

    Args:
        count: of all images.
        unreadable: those that are left out, each with its reason.

    Raises:
        DataError: all are.
    """
    if count and len(unreadable) == count:
        raise DataError(
            f"None of the {count} images can be read; the first is {unreadable[0]}."
        )
