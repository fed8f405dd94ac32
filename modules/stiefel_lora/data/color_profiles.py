"""Conversion of images from their embedded ICC profile to sRGB.

Models are trained on sRGB images. If values of another color space are interpreted as
sRGB, colors are paler or more saturated than intended. For example, (200, 90, 60) in
Display P3 is about (217, 81, 47) in sRGB.

The rendering intent is perceptual with black point compensation, or relative
colorimetric for profiles without a perceptual table (sRGB, Display P3, Adobe RGB, ...).
Images without a profile, and with a profile that is equal to sRGB up to rounding, are
not changed.
"""

from __future__ import annotations

import dataclasses
import functools
import hashlib
import io
from collections.abc import Iterable
from pathlib import Path

import numpy as np
from PIL import Image, ImageCms

from .._wording import counted
from .image_file import open_image
from .unreadable import UnreadableImage

__all__ = [
    "Conversion",
    "conversion_of",
    "conversion_of_file",
    "profile_remarks",
    "to_srgb",
]

# Color spaces of profiles -> modes of Pillow.
_MODES = {"GRAY": "L", "RGB": "RGB", "CMYK": "CMYK"}

# Levels of 255 by which sRGB profiles of different vendors differ due to rounding of
# their curves; gamma 2.2 instead of sRGB's curve is off by 7 in the shadows.
_ROUNDING = 2

# Digits of a profile's hash in cache keys, and images listed in a message.
_DIGITS, _SHOWN = 16, 3


@dataclasses.dataclass(frozen=True)
class Conversion:
    """Conversion of an image to sRGB."""

    key: str = ""
    """ID of the profile for cache keys. "" if the image is not changed."""

    problem: str = ""
    """Reason why the profile cannot be used, in which case it is ignored."""

    mode: str = ""
    """Pillow mode of the input of ``transform``."""

    transform: ImageCms.ImageCmsTransform | None = None


_NONE = Conversion()


def conversion_of(image: Image.Image) -> Conversion:
    """Return the conversion of an opened image to sRGB. Pixels are not read."""
    if "icc_profile" not in image.info:
        return _NONE
    profile = image.info["icc_profile"]
    if not profile:
        # Pillow returns None if pieces of the profile are missing.
        return Conversion(problem="it is incomplete")
    return _conversion(profile, _base_mode(image.mode))


def conversion_of_file(path: Path) -> Conversion:
    """Return the conversion of an image file to sRGB. Only the header is read.

    Raises:
        UnreadableImage: If the file is not an image, or is truncated before its pixels.
    """
    if not _may_have_profile(path):
        return _NONE
    with open_image(path) as image:
        return conversion_of(image)


def to_srgb(image: Image.Image) -> Image.Image:
    """Convert an image to sRGB: RGB, or RGBA for images with transparency.

    Images without a profile, or with a profile that cannot be used, are returned
    unchanged.
    """
    conversion = conversion_of(image)
    if conversion.transform is None:
        return image
    if not image.has_transparency_data or image.mode.startswith("I"):
        return _applied(conversion, image)
    whole = image.convert("RGBA")
    converted = _applied(conversion, whole)
    converted.putalpha(whole.getchannel("A"))
    return converted


def profile_remarks(paths: Iterable[Path]) -> list[str]:
    """Return messages about converted images and about invalid profiles.

    Args:
        paths: image files. Unreadable files are ignored.
    """
    converted: list[str] = []
    broken: list[str] = []
    for path in dict.fromkeys(paths):
        try:
            found = conversion_of_file(path)
        except UnreadableImage:
            continue
        if found.problem:
            broken.append(f"{path.name} ({found.problem})")
        elif found.transform is not None:
            converted.append(path.name)
    messages = (
        (
            "image was converted from its color profile to sRGB",
            "images were converted from their color profile to sRGB",
            converted,
        ),
        (
            "image has an invalid color profile, which is ignored",
            "images have an invalid color profile, which is ignored",
            broken,
        ),
    )
    return [
        f"{counted(len(names), one, many)}: {', '.join(names[:_SHOWN])}"
        f"{' ...' if len(names) > _SHOWN else ''}."
        for one, many, names in messages
        if names
    ]


def _may_have_profile(path: Path) -> bool:
    """Return whether a file may contain a profile. For WebP, only a flag is read."""
    try:
        with path.open("rb") as file:
            head = file.read(21)
    except OSError as error:
        raise UnreadableImage(error.strerror or str(error)) from error
    if head[:4] != b"RIFF" or head[8:12] != b"WEBP":
        return True
    return head[12:16] == b"VP8X" and len(head) > 20 and bool(head[20] & 0x20)


def _applied(conversion: Conversion, image: Image.Image) -> Image.Image:
    if image.mode.startswith("I"):
        # 16 bits; 65535 corresponds to 255.
        gray = np.asarray(image).astype(np.float64).clip(0, 65535) / 257.0
        return _along(_curve(conversion), gray)
    if conversion.mode == "L":
        return _along(_curve(conversion), np.asarray(image.convert("L")))
    return _transformed(conversion, image)


def _along(curve: np.ndarray, gray: np.ndarray) -> Image.Image:
    """Return the RGB of gray levels, interpolated between integer levels."""
    if gray.dtype == np.uint8:
        return Image.fromarray(curve[gray])
    levels = np.arange(256)
    channels = [np.interp(gray, levels, curve[:, channel]) for channel in range(3)]
    return Image.fromarray(np.stack(channels, axis=-1).round().astype(np.uint8))


def _curve(conversion: Conversion) -> np.ndarray:
    """Return the RGB of the 256 gray levels, ``(256, 3)``."""
    ramp = Image.fromarray(np.arange(256, dtype=np.uint8)[None])
    return np.asarray(_transformed(conversion, ramp))[0]


def _transformed(conversion: Conversion, image: Image.Image) -> Image.Image:
    assert conversion.transform is not None
    found = ImageCms.applyTransform(
        image.convert(conversion.mode), conversion.transform
    )
    assert found is not None
    return found


def _base_mode(mode: str) -> str:
    if mode in ("1", "L", "LA", "La") or mode.startswith("I"):
        return "L"
    return "CMYK" if mode == "CMYK" else "RGB"


@functools.lru_cache(maxsize=256)
def _conversion(data: bytes, base: str) -> Conversion:
    try:
        profile = ImageCms.ImageCmsProfile(io.BytesIO(data))
        space = profile.profile.xcolor_space.strip()
        mode = _MODES.get(space)
        # In a gray image with an RGB profile, gray stands for equal R, G and B.
        if mode is None or (mode != base and (mode, base) != ("RGB", "L")):
            return Conversion(
                problem=f"it is a profile for {space}, but the image is {base}"
            )
        flags = ImageCms.Flags.BLACKPOINTCOMPENSATION
        if mode == "L":
            # LittleCMS would replace the curve by a table of few points.
            flags |= ImageCms.Flags.NOOPTIMIZE
        transform = ImageCms.buildTransform(
            profile,
            ImageCms.createProfile("sRGB"),
            mode,
            "RGB",
            renderingIntent=ImageCms.Intent.PERCEPTUAL,
            flags=flags,
        )
    except (ImageCms.PyCMSError, OSError, ValueError, TypeError) as error:
        return Conversion(problem=str(error).strip().rstrip(".") or "it is damaged")
    except ImportError:
        return Conversion(problem="this Pillow was built without LittleCMS")
    found = Conversion(hashlib.sha256(data).hexdigest()[:_DIGITS], "", mode, transform)
    return _NONE if _changes_nothing(found) else found


def _changes_nothing(conversion: Conversion) -> bool:
    """Return whether a conversion changes no color by more than rounding."""
    if conversion.mode == "CMYK":
        return False
    levels = np.arange(256, dtype=np.uint8)
    probe = np.stack([levels] * 3, axis=-1)
    if conversion.mode == "RGB":
        steps = np.linspace(0, 255, 9).round().astype(np.uint8)
        grid = np.stack(np.meshgrid(steps, steps, steps), axis=-1).reshape(-1, 3)
        probe = np.concatenate([probe, grid])
    found = np.asarray(_transformed(conversion, Image.fromarray(probe[None])))[0]
    return bool(np.abs(found.astype(int) - probe).max() <= _ROUNDING)
