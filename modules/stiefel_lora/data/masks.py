"""Where a picture counts: masks beside pictures, or what is transparent in them."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
from PIL import Image, ImageOps
from torch import Tensor

from .augmentation import Augmentation
from .buckets import MEGAPIXELS, check_pixels, megapixels
from .image_file import open_image
from .pictures import cut_out, to_gray
from .unreadable import UnreadablePicture

__all__ = ["read_mask"]

# Rounding to whole pixels makes the shapes of a small mask and its picture differ.
_SHAPE_TOLERANCE = 0.02


def read_mask(
    path: Path, augmentation: Augmentation, size: tuple[int, int], alpha: bool
) -> Tensor:
    """Read a mask, scaled, mirrored and cut as its picture.

    Args:
        path: the mask, or the picture whose alpha channel is the mask.
        augmentation: of the picture.
        size: height and width of the latents.
        alpha: whether ``path`` is the picture.

    Returns:
        ``(1, height, width)`` float32 from 0 (does not count) to 1, means over the
        pixels that a latent stands for.

    Raises:
        UnreadablePicture: not a picture, or of another shape than its picture.
    """
    try:
        with open_image(path) as image:
            # No larger than its image, unless both are small.
            check_pixels(
                image.size, max(MEGAPIXELS, megapixels(augmentation.frame.original))
            )
            image.load()
            upright = ImageOps.exif_transpose(image)
            grey = _alpha_of(upright) if alpha else to_gray(upright)
    except UnreadablePicture as error:
        raise UnreadablePicture(f"its mask {path.name}: {error}") from error
    _check_shape(grey.size, augmentation.frame.original, path)
    scaled = grey.resize(augmentation.frame.scaled, Image.Resampling.BOX)
    height, width = size
    small = cut_out(scaled, augmentation).resize((width, height), Image.Resampling.BOX)
    return torch.from_numpy(np.array(small)).float().div(255)[None]


def _alpha_of(image: Image.Image) -> Image.Image:
    if not image.has_transparency_data:
        return Image.new("L", image.size, 255)
    return image.convert("RGBA").getchannel("A")


def _check_shape(mask: tuple[int, int], picture: tuple[int, int], path: Path) -> None:
    found, expected = mask[0] / mask[1], picture[0] / picture[1]
    if abs(found / expected - 1) > _SHAPE_TOLERANCE:
        raise UnreadablePicture(
            f"its mask {path.name} has {mask[0]} x {mask[1]} pixels, another shape "
            f"than {picture[0]} x {picture[1]}"
        )
