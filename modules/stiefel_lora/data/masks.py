"""Masks of images, from mask files or the alpha channel."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
from PIL import Image, ImageOps
from torch import Tensor

from .augmentation import Augmentation
from .buckets import MEGAPIXELS, check_pixels, megapixels
from .image_crop import cut_out, to_gray
from .image_file import open_image
from .unreadable import UnreadableImage

__all__ = ["has_alpha", "read_mask"]

# Rounding to whole pixels changes the aspect ratio of a small mask slightly.
_SHAPE_TOLERANCE = 0.02


def read_mask(
    path: Path, augmentation: Augmentation, size: tuple[int, int], alpha: bool
) -> Tensor:
    """Read a mask, and scale, flip and crop it like its image.

    Args:
        path: mask file, or image whose alpha channel is the mask.
        augmentation: augmentation of the image.
        size: height and width of the latents.
        alpha: whether to use the alpha channel of ``path``.

    Returns:
        ``(1, height, width)`` float32 from 0 (ignored) to 1, averaged over the pixels
        of each latent.

    Raises:
        UnreadableImage: If the mask is not an image, or has another aspect ratio than
            the image.
    """
    try:
        with open_image(path) as image:
            # Not larger than its image, unless both are small.
            check_pixels(
                image.size, max(MEGAPIXELS, megapixels(augmentation.frame.original))
            )
            image.load()
            upright = ImageOps.exif_transpose(image)
            gray = _alpha_of(upright) if alpha else to_gray(upright)
    except UnreadableImage as error:
        raise UnreadableImage(f"its mask {path.name}: {error}") from error
    _check_shape(gray.size, augmentation.frame.original, path)
    scaled = gray.resize(augmentation.frame.scaled, Image.Resampling.BOX)
    height, width = size
    small = cut_out(scaled, augmentation).resize((width, height), Image.Resampling.BOX)
    return torch.from_numpy(np.array(small)).float().div(255)[None]


def has_alpha(path: Path) -> bool:
    """Return whether an image has an alpha channel. Only its header is read."""
    try:
        with open_image(path) as image:
            return image.has_transparency_data
    except UnreadableImage:
        return False


def _alpha_of(image: Image.Image) -> Image.Image:
    if not image.has_transparency_data:
        return Image.new("L", image.size, 255)
    return image.convert("RGBA").getchannel("A")


def _check_shape(mask: tuple[int, int], image: tuple[int, int], path: Path) -> None:
    found, expected = mask[0] / mask[1], image[0] / image[1]
    if abs(found / expected - 1) > _SHAPE_TOLERANCE:
        raise UnreadableImage(
            f"its mask {path.name} has {mask[0]} x {mask[1]} pixels, but the image "
            f"has {image[0]} x {image[1]}, which is another aspect ratio"
        )
