"""Loading of image files for display, in any thread."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from pathlib import Path

from PIL import Image
from PySide6.QtGui import QImage

from ...data.buckets import MEGAPIXELS
from ...data.preview_image import fitted, preview_image
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
        return Loaded(scaled_image(preview_image(path, side, most), side))
    except UnreadableImage as error:
        return Loaded(QImage(), str(error))


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
    image = fitted(image.convert("RGBA"), side)
    data = image.tobytes()
    width, height = image.size
    kind = QImage.Format.Format_RGBA8888
    return QImage(data, width, height, 4 * width, kind).copy()
