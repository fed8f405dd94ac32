"""Opening of image files with a single size limit, that of ``Buckets.size_for``.

Pillow has its own limit of 179 million pixels. It does not affect ``scan``, which reads
sizes without Pillow, and it cannot be raised for a single caller. Images opened here
have passed our limit, so Pillow's is disabled meanwhile.
"""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Iterator
from pathlib import Path

from PIL import Image

from .unreadable import DAMAGE, UnreadableImage

__all__ = ["open_image"]

# The limit is a global variable of Pillow, shared by threads.
_LOCK = threading.Lock()


@contextlib.contextmanager
def open_image(path: Path) -> Iterator[Image.Image]:
    """Open an image file. Exceptions from damaged files become one error.

    Pixels are not decoded until they are accessed: check ``size`` first.

    Raises:
        UnreadableImage: If the file is not an image, or is truncated.
    """
    try:
        with _opened(path) as image:
            yield image
    except DAMAGE as error:
        reason = str(error) or type(error).__name__
        raise UnreadableImage(reason.replace(str(path), path.name)) from error


def _opened(path: Path) -> Image.Image:
    with _LOCK:
        limit, Image.MAX_IMAGE_PIXELS = Image.MAX_IMAGE_PIXELS, None
        try:
            return Image.open(path)
        finally:
            Image.MAX_IMAGE_PIXELS = limit
