"""Search for chunks in the header of a PNG file."""

from __future__ import annotations

from typing import BinaryIO

__all__ = ["has_png_chunk"]


def has_png_chunk(file: BinaryIO, kind: bytes) -> bool:
    """Return whether a PNG file contains a chunk such as ``eXIf`` before its pixels."""
    place = 8
    while True:
        file.seek(place)
        head = file.read(8)
        if len(head) < 8 or head[4:] in (b"IDAT", b"IEND"):
            return False
        if head[4:] == kind:
            return True
        # Length, type and checksum of the chunk are 4 bytes each.
        place += 12 + int.from_bytes(head[:4], "big")
