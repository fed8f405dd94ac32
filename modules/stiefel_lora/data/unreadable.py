"""Error about an image file that cannot be used."""

from __future__ import annotations

import struct
import zlib
from collections.abc import Sequence

from PIL import Image

from .._exceptions import DataError

__all__ = ["DAMAGE", "UnreadableImage", "check_some_readable"]

# Exceptions of Pillow's decoders on damaged files, depending on the damage.
DAMAGE = (
    OSError,
    SyntaxError,
    ValueError,
    EOFError,
    struct.error,
    zlib.error,
    # The AVIF decoder, and NotImplementedError of others.
    RuntimeError,
    Image.DecompressionBombError,
)


class UnreadableImage(Exception):
    """Error about an image file that cannot be used. The message is the reason."""


def check_some_readable(count: int, unreadable: Sequence[str]) -> None:
    """Check that at least one image can be used.

    Args:
        count: number of all images.
        unreadable: skipped images with the reasons.

    Raises:
        DataError: If all images are unreadable.
    """
    if count and len(unreadable) == count:
        raise DataError(
            f"{'The only image' if count == 1 else f'None of the {count} images'} "
            f"can{'not' if count == 1 else ''} be read. The first error is: "
            f"{unreadable[0]}."
        )
