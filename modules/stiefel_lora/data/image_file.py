"""Opening of image files without the size limit of Pillow.

Pillow rejects images with more than 179 million pixels. This limit is disabled here,
because the size of images was already checked by ``Buckets.size_for``.
"""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Iterator
from pathlib import Path

from PIL import Image, UnidentifiedImageError

from .image_formats import register_heif
from .unreadable import DAMAGE, UnreadableImage

__all__ = ["open_image"]

# What the extensions of image_formats mean. Pillow has others, some of which start a
# program, and takes the content for what it is, whatever the extension.
_FORMATS = frozenset(
    {"AVIF", "BMP", "GIF", "HEIF", "JPEG", "MPO", "PNG", "TIFF", "WEBP"}
)
# The limit is a global variable of Pillow, shared by threads.
_LOCK = threading.Lock()


@contextlib.contextmanager
def open_image(path: Path) -> Iterator[Image.Image]:
    """Open an image file without decoding its pixels. Check ``size`` before decoding.

    Raises:
        UnreadableImage: If the file is not an image in a format of photos, or is
            truncated.
    """
    try:
        with _opened(path) as image:
            if image.format not in _FORMATS:
                raise UnreadableImage(f"the format {image.format} is not supported")
            yield image
    except DAMAGE as error:
        reason = str(error) or type(error).__name__
        raise UnreadableImage(reason.replace(str(path), path.name)) from error


def _opened(path: Path) -> Image.Image:
    with _LOCK:
        limit, Image.MAX_IMAGE_PIXELS = Image.MAX_IMAGE_PIXELS, None
        try:
            return Image.open(path)
        except UnidentifiedImageError:
            # Also files of phones whose extension is .jpg.
            if not register_heif():
                raise
            return Image.open(path)
        finally:
            Image.MAX_IMAGE_PIXELS = limit
