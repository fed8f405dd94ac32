"""Loading of image files for display, in any thread."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from pathlib import Path

from PIL import Image, ImageOps
from PySide6.QtGui import QImage

from ...data.buckets import MEGAPIXELS, check_pixels
from ...data.image_file import open_image
from ...data.unreadable import UnreadableImage

__all__ = ["Loaded", "load_crop", "load_image", "scaled_image"]


@dataclasses.dataclass(frozen=True)
class Loaded:
    """Image for display, or the reason why it cannot be read."""

    image: QImage
    """Empty if the file is damaged."""

    reason: str = ""


def load_image(path: Path, side: int, most: float = MEGAPIXELS) -> Loaded:
    """Load an image file, upright and scaled to fit into a square.

    Args:
        path: image file.
        side: width and height of the square in pixels.
        most: maximum number of megapixels. Larger images are not decoded.
    """
    try:
        with open_image(path) as opened:
            check_pixels(opened.size, most)
            opened.draft("RGB", (2 * side, 2 * side))
            image = ImageOps.exif_transpose(opened).convert("RGBA")
    except UnreadableImage as error:
        return Loaded(QImage(), str(error))
    # Decoders raise many kinds of exceptions for damaged files.
    except Exception as error:
        return Loaded(QImage(), str(error) or type(error).__name__)
    return Loaded(scaled_image(image, side))


def load_crop(crop: Callable[[], Image.Image], side: int) -> Loaded:
    """Compute an image for display, scaled to fit into a square.

    Args:
        crop: function that decodes and crops an image.
        side: width and height of the square in pixels.
    """
    try:
        return Loaded(scaled_image(crop(), side))
    except Exception as error:
        return Loaded(QImage(), str(error) or type(error).__name__)


def scaled_image(image: Image.Image, side: int) -> QImage:
    """Convert an image for display, scaled to fit into a square."""
    scale = min(side / image.width, side / image.height)
    size = (max(1, round(image.width * scale)), max(1, round(image.height * scale)))
    image = image.convert("RGBA").resize(size, Image.Resampling.BILINEAR)
    data = image.tobytes()
    width, height = image.size
    kind = QImage.Format.Format_RGBA8888
    return QImage(data, width, height, 4 * width, kind).copy()
