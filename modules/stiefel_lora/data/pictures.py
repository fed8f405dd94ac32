"""Decode one picture file into the pixels that training sees."""

from __future__ import annotations

import struct
import zlib
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from PIL import Image, ImageOps
from torch import Tensor

from .framing import Frame

__all__ = ["UnreadablePicture", "read_picture"]

# What Pillow's decoders raise on damaged files, by what they meet first.
_DAMAGE = (
    OSError,
    SyntaxError,
    ValueError,
    EOFError,
    struct.error,
    zlib.error,
    Image.DecompressionBombError,
)


class UnreadablePicture(Exception):
    """A file that can not be decoded; its text is the reason. Never leaves ``data``."""


def read_picture(
    path: Path, frame_of: Callable[[tuple[int, int]], Frame]
) -> tuple[Tensor, Frame]:
    """Decode, turn upright, put on white, scale and cut.

    Args:
        path: the picture file.
        frame_of: from (width, height) of the upright picture to its frame.

    Returns:
        ``(3, height, width)`` float32 in [-1, 1], and the frame.

    Raises:
        UnreadablePicture: truncated, or not a picture.
    """
    try:
        with Image.open(path) as image:
            image.load()
            upright = ImageOps.exif_transpose(image)
            frame = frame_of(upright.size)
            scaled = _on_white(upright).resize(
                frame.scaled, Image.Resampling.LANCZOS, reducing_gap=3.0
            )
            cut = scaled.crop(frame.box)
    except _DAMAGE as error:
        reason = str(error) or type(error).__name__
        raise UnreadablePicture(reason.replace(str(path), path.name)) from error
    pixels = torch.from_numpy(np.array(cut)).permute(2, 0, 1)
    return pixels.float().div(127.5).sub(1.0).contiguous(), frame


def _on_white(image: Image.Image) -> Image.Image:
    """RGB, with white behind what is transparent."""
    if image.mode.startswith("I"):
        # 16-bit grey: Pillow's own conversion would clip instead of scaling.
        grey = np.asarray(image).astype(np.float64) / 257.0
        return Image.fromarray(grey.clip(0, 255).astype(np.uint8)).convert("RGB")
    if image.has_transparency_data:
        rgba = image.convert("RGBA")
        white = Image.new("RGBA", rgba.size, (255, 255, 255, 255))
        return Image.alpha_composite(white, rgba).convert("RGB")
    return image.convert("RGB")
