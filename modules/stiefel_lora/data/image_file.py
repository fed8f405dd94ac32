"""Open image files with one rule on their size: ``Buckets.size_for``'s.

Pillow has a limit of its own, 179 million pixels. ``scan`` never meets it, since sizes
are read without Pillow, and it cannot be raised for one caller. What is opened here has
passed our limit; Pillow's is off meanwhile.
"""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Iterator
from pathlib import Path

from PIL import Image

from .unreadable import DAMAGE, UnreadableImage

__all__ = ["open_image"]

# The limit is a variable of Pillow's module, which threads share.
_LOCK = threading.Lock()


@contextlib.contextmanager
def open_image(path: Path) -> Iterator[Image.Image]:
    """Open an image file; what damaged files raise inside becomes one error.

    Pixels are not decoded before they are asked for: look at ``size`` first.

    Raises:
        UnreadablePicture: not an image, or cut off.
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
