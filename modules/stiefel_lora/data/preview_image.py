"""Decoding of image files for display, which never fails in another way than one."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from pathlib import Path

from PIL import Image, ImageOps

from .buckets import MEGAPIXELS, check_pixels
from .image_file import open_image
from .unreadable import UnreadableImage

__all__ = ["check_image", "fitted", "preview_image"]


def preview_image(path: Path, side: int, most: float = MEGAPIXELS) -> Image.Image:
    """Decode an image file, upright, in RGBA. Large JPEG files are read reduced.

    Args:
        path: image file.
        side: length of the longer edge in pixels for which it is to be good enough.
        most: maximum number of megapixels. Larger images are not decoded.

    Raises:
        UnreadableImage: If the file is no image, damaged or too large.
    """
    with _checked(path, most) as opened:
        opened.draft("RGB", (2 * side, 2 * side))
        return ImageOps.exif_transpose(opened).convert("RGBA")


def check_image(path: Path, most: float = MEGAPIXELS) -> None:
    """Check format and size of an image file, whose pixels are not decoded.

    Raises:
        UnreadableImage: If the file is no image, or is too large.
    """
    with _checked(path, most):
        pass


@contextlib.contextmanager
def _checked(path: Path, most: float) -> Iterator[Image.Image]:
    try:
        with open_image(path) as opened:
            check_pixels(opened.size, most)
            yield opened
    except UnreadableImage:
        raise
    # Decoders raise many kinds of exceptions for damaged files.
    except Exception as error:
        raise UnreadableImage(str(error) or type(error).__name__) from error


def fitted(image: Image.Image, side: int) -> Image.Image:
    """Return an image scaled so that its longer edge has ``side`` pixels."""
    scale = min(side / image.width, side / image.height)
    size = (max(1, round(image.width * scale)), max(1, round(image.height * scale)))
    return image.resize(size, Image.Resampling.BILINEAR)
