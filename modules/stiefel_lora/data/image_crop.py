"""Cropping of an image file to the pixels that are used for training.

This module does not import torch, so that previews show the images of training.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
from PIL import Image, ImageEnhance, ImageOps

from ..config.alpha_background import HIDDEN, WHITE
from .augmentation import Augmentation
from .buckets import MEGAPIXELS, check_pixels
from .color_profiles import to_srgb
from .image_file import open_image
from .unreadable import UnreadableImage

__all__ = ["check_decoding", "crop_image", "cut_out", "to_gray", "whole_image"]


def crop_image(path: Path, augmentation: Augmentation) -> Image.Image:
    """Decode an image file, convert it to sRGB, and apply the augmentation.

    Transparent areas get the background of the augmentation, and the EXIF orientation
    is applied.

    Args:
        path: image file.
        augmentation: augmentation for the size of the image.

    Returns:
        An RGB image with the size of the crop.

    Raises:
        UnreadableImage: If the file is truncated, not an image, or does not have the
            expected size.
    """
    with open_image(path) as image:
        whole = _decoded(image, augmentation.frame.original, augmentation.background)
        # With reducing_gap, Pillow first reduces a large photo by a whole factor, to no
        # less than three times the size; its documentation calls the result nearly that
        # of resampling alone.
        scaled = whole.resize(
            augmentation.frame.scaled, Image.Resampling.LANCZOS, reducing_gap=3.0
        )
        return _colored(cut_out(scaled, augmentation), augmentation)


def check_decoding(path: Path, size: tuple[int, int]) -> None:
    """Decode an image as :func:`crop_image`, without resizing and cropping it.

    Args:
        path: image file.
        size: upright width and height according to its header.

    Raises:
        UnreadableImage: As :func:`crop_image`.
    """
    with open_image(path) as image:
        _decoded(image, size)


def whole_image(path: Path, most_megapixels: float = MEGAPIXELS) -> Image.Image:
    """Decode an image file to RGB in sRGB, upright and on white, without cropping.

    Raises:
        UnreadableImage: If the file is truncated, not an image, or too large.
    """
    with open_image(path) as image:
        check_pixels(image.size, most_megapixels)
        image.load()
        return _opaque(to_srgb(ImageOps.exif_transpose(image)))


def cut_out(scaled: Image.Image, augmentation: Augmentation) -> Image.Image:
    """Flip and crop an image that has been scaled."""
    if augmentation.mirrored:
        scaled = ImageOps.mirror(scaled)
    return scaled.crop(augmentation.frame.box)


def to_gray(image: Image.Image) -> Image.Image:
    """Convert an image to 8-bit gray. 16-bit values are scaled instead of clipped."""
    _check_depth(image)
    if not image.mode.startswith("I"):
        return image.convert("L")
    gray = np.asarray(image).astype(np.float64) / 257.0
    return Image.fromarray(gray.clip(0, 255).astype(np.uint8))


def _colored(image: Image.Image, augmentation: Augmentation) -> Image.Image:
    for enhance, factor in (
        (ImageEnhance.Brightness, augmentation.brightness),
        (ImageEnhance.Contrast, augmentation.contrast),
        (ImageEnhance.Color, augmentation.saturation),
    ):
        if factor != 1:
            image = enhance(image).enhance(factor)
    if augmentation.hue:
        hue, *others = image.convert("HSV").split()
        # The color wheel has 256 steps, and uint8 arithmetic wraps around.
        turned = np.asarray(hue) + np.uint8(round(augmentation.hue * 128) % 256)
        image = Image.merge("HSV", (Image.fromarray(turned), *others)).convert("RGB")
    return image


def _decoded(
    image: Image.Image, size: tuple[int, int], background: str = WHITE
) -> Image.Image:
    """Decode an opened image to RGB in sRGB, upright and on a background."""
    # Before decoding: a wrong header must not cost memory.
    if image.size != size[::-1]:
        _check_size(image.size, size)
    image.load()
    upright = ImageOps.exif_transpose(image)
    _check_size(upright.size, size)
    return _opaque(to_srgb(upright), background)


def _check_size(found: tuple[int, int], expected: tuple[int, int]) -> None:
    """Check that the size of the decoded image is the size in its header."""
    if found != expected:
        raise UnreadableImage(
            f"it has {found[0]} x {found[1]} pixels, but its header specifies "
            f"{expected[0]} x {expected[1]}. Save it again with an image editor"
        )


def _check_depth(image: Image.Image) -> None:
    """Check that the values of a gray image are known to be 8-bit or 16-bit ones."""
    known = image.mode != "F"
    if image.mode == "I":
        known = int(np.asarray(image).max()) < 1 << 16
    if not known:
        raise UnreadableImage(
            "it has 32-bit values, whose range is unknown. Save it with 8 or 16 bits"
        )


def _opaque(image: Image.Image, background: str = WHITE) -> Image.Image:
    """Convert an image to RGB, with a background in transparent areas."""
    _check_depth(image)
    if image.mode.startswith("I"):
        return to_gray(image).convert("RGB")
    if image.has_transparency_data and background != HIDDEN:
        rgba = image.convert("RGBA")
        below = Image.new("RGBA", rgba.size, background)
        return Image.alpha_composite(below, rgba).convert("RGB")
    return image.convert("RGB")
