"""Reading of the width and height of an image from the header of its file.

``imagesize`` is used if possible, because it is fast. It applies the EXIF orientation
of JPEG files. Other files are opened with Pillow without decoding pixels.
"""

from __future__ import annotations

from pathlib import Path
from typing import BinaryIO

import imagesize

from .image_file import open_image
from .unreadable import DAMAGE, UnreadableImage

__all__ = ["upright_size"]

_ORIENTATION = 0x0112
# Values of the EXIF orientation that swap width and height.
_SWAPPED = (5, 6, 7, 8)


def upright_size(path: Path) -> tuple[int, int]:
    """Return the width and height in pixels after applying the EXIF orientation.

    Raises:
        UnreadableImage: If the file is not an image, or is truncated before its size.
    """
    try:
        with path.open("rb") as file:
            if not _may_be_turned(file):
                file.seek(0)
                size = imagesize.get(file)
                if min(size) > 0:
                    return size
    except DAMAGE as error:
        reason = str(error) or type(error).__name__
        raise UnreadableImage(reason.replace(str(path), path.name)) from error
    return _size_by_pillow(path)


def _size_by_pillow(path: Path) -> tuple[int, int]:
    with open_image(path) as image:
        width, height = image.size
        turned = image.getexif().get(_ORIENTATION) in _SWAPPED
    return (height, width) if turned else (width, height)


def _may_be_turned(file: BinaryIO) -> bool:
    """Return whether a PNG or WebP file may contain EXIF data."""
    head = file.read(32)
    if head.startswith(b"\x89PNG"):
        return _has_exif_chunk(file)
    extended = head[:4] == b"RIFF" and head[8:16] == b"WEBPVP8X"
    # Byte 20 has the flags of the VP8X chunk; 0x08 stands for EXIF data.
    return extended and len(head) > 20 and bool(head[20] & 0x08)


def _has_exif_chunk(file: BinaryIO) -> bool:
    """Return whether a PNG file contains EXIF data before the pixels."""
    place = 8
    while True:
        file.seek(place)
        head = file.read(8)
        if len(head) < 8 or head[4:] in (b"IDAT", b"IEND"):
            return False
        if head[4:] == b"eXIf":
            return True
        # Length, type and checksum of the chunk are 4 bytes each.
        place += 12 + int.from_bytes(head[:4], "big")
