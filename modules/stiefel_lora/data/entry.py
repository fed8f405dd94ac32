"""Readable image of a dataset, with its size and bucket."""

from __future__ import annotations

import dataclasses

from .buckets import Size
from .folder import CaptionedImage

__all__ = ["Entry"]


@dataclasses.dataclass(frozen=True)
class Entry:
    """Readable image of the dataset."""

    image: CaptionedImage
    original: Size
    """Width and height of the image in pixels, after applying the EXIF orientation."""

    size: Size
    """Bucket of the image."""
