"""Images with several frames or pages, of which the first one is used."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from pathlib import Path
from typing import BinaryIO

from .._wording import counted
from .image_file import open_image
from .png_chunks import has_png_chunk
from .unreadable import UnreadableImage

__all__ = ["frame_remarks", "has_frames"]

# Images listed in a message.
_SHOWN = 3


def has_frames(path: Path) -> bool:
    """Return whether an image file has several frames or pages. No pixels are decoded.

    Unreadable files have none.
    """
    known = _BY_SUFFIX.get(path.suffix.lower())
    if known is None:
        return False
    try:
        with path.open("rb") as file:
            found = known(file)
        if found is None:
            with open_image(path) as image:
                found = getattr(image, "n_frames", 1) > 1
    except (OSError, UnreadableImage):
        return False
    return found


def frame_remarks(paths: Iterable[Path]) -> list[str]:
    """Return a message about images with several frames, or none."""
    names = [path.name for path in dict.fromkeys(paths) if has_frames(path)]
    if not names:
        return []
    found = counted(
        len(names),
        "image has several frames or pages, of which the first one is used",
        "images have several frames or pages, of which the first one is used",
    )
    more = " ..." if len(names) > _SHOWN else ""
    return [f"{found}: {', '.join(names[:_SHOWN])}{more}."]


def _in_png(file: BinaryIO) -> bool:
    return file.read(8) == b"\x89PNG\r\n\x1a\n" and has_png_chunk(file, b"acTL")


def _in_webp(file: BinaryIO) -> bool:
    head = file.read(21)
    # Byte 20 has the flags of the VP8X chunk; 0x02 stands for animation.
    return head[8:16] == b"WEBPVP8X" and len(head) > 20 and bool(head[20] & 0x02)


def _in_avif(file: BinaryIO) -> bool:
    """Return whether the brands of an AVIF file contain that of sequences."""
    size = int.from_bytes(file.read(4), "big")
    return b"avis" in file.read(min(size, 256))


def _by_pillow(file: BinaryIO) -> None:
    """Leave the answer to Pillow, which counts frames without decoding them."""


_BY_SUFFIX: dict[str, Callable[[BinaryIO], bool | None]] = {
    ".apng": _in_png,
    ".avif": _in_avif,
    ".gif": _by_pillow,
    ".png": _in_png,
    ".tif": _by_pillow,
    ".tiff": _by_pillow,
    ".webp": _in_webp,
}
