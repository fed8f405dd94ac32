"""What a picture file that can not be used raises; never leaves ``data``."""

from __future__ import annotations

import struct
import zlib

from PIL import Image

__all__ = ["DAMAGE", "UnreadablePicture"]

# What Pillow's decoders raise on damaged files, by what they meet first.
DAMAGE = (
    OSError,
    SyntaxError,
    ValueError,
    EOFError,
    struct.error,
    zlib.error,
    Image.DecompressionBombError,
)


class UnreadablePicture(Exception):
    """A file that can not be decoded or used; its text is the reason."""
