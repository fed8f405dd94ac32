"""Reading of the width and height of an image from the header of its file.

``imagesize`` is used if possible, because it is fast. It applies the EXIF orientation
of JPEG files. Other files are opened with Pillow without decoding pixels.
"""

from __future__ import annotations

from pathlib import Path
from typing import BinaryIO

import imagesize

from .image_file import open_image
from .png_chunks import has_png_chunk
from .unreadable import DAMAGE, UnreadableImage

__all__ = ["upright_size"]

_ORIENTATION = 0x0112
_WIDTH, _HEIGHT = 256, 257
"""Tags of TIFF files."""
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
        tags = getattr(image, "tag_v2", None)
        if image.format == "TIFF" and tags is not None:
            # Newer versions of Pillow have already swapped the size.
            width, height = int(tags[_WIDTH]), int(tags[_HEIGHT])
        turned = image.getexif().get(_ORIENTATION) in _SWAPPED
    return (height, width) if turned else (width, height)


def _may_be_turned(file: BinaryIO) -> bool:
    """Return whether a file may contain a rotation that ``imagesize`` ignores.

    These are PNG and WebP files with EXIF data, and all TIFF, AVIF and HEIF files.
    """
    head = file.read(32)
    if head.startswith(b"\x89PNG"):
        return has_png_chunk(file, b"eXIf")
    if head[:4] in (b"II*\x00", b"MM\x00*", b"II+\x00", b"MM\x00+"):
        return True
    if head[4:8] == b"ftyp":
        return True
    extended = head[:4] == b"RIFF" and head[8:16] == b"WEBPVP8X"
    # Byte 20 has the flags of the VP8X chunk; 0x08 stands for EXIF data.
    return extended and len(head) > 20 and bool(head[20] & 0x08)
