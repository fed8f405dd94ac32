"""File name extensions of images, and the packages that some formats need.

This module does not import Pillow.
"""

from __future__ import annotations

import functools
import importlib
import importlib.util
from pathlib import Path

from .._install import install_command

__all__ = [
    "HEIF_SUFFIXES",
    "IMAGE_SUFFIXES",
    "is_image_name",
    "is_other_image_name",
    "missing_package",
    "register_heif",
]

IMAGE_SUFFIXES = frozenset(
    {
        ".apng",
        ".avif",
        ".bmp",
        ".gif",
        ".jfif",
        ".jpe",
        ".jpeg",
        ".jpg",
        ".pjp",
        ".pjpeg",
        ".png",
        ".tif",
        ".tiff",
        ".webp",
    }
)
"""Extensions of images that are used for training."""

HEIF_SUFFIXES = frozenset({".heic", ".heif", ".hif"})
"""Extensions of images that are used for training if pillow-heif is installed."""

# Other image and camera formats. They are counted, but not used for training.
_OTHER_SUFFIXES = frozenset(
    {
        ".arw",
        ".cr2",
        ".cr3",
        ".dng",
        ".exr",
        ".hdr",
        ".ico",
        ".j2k",
        ".jp2",
        ".jxl",
        ".nef",
        ".orf",
        ".pbm",
        ".pgm",
        ".ppm",
        ".psd",
        ".raf",
        ".rw2",
        ".svg",
        ".tga",
        ".xcf",
    }
)


def is_image_name(path: Path) -> bool:
    """Return whether a file has the extension of an image that can be read."""
    suffix = path.suffix.lower()
    return suffix in IMAGE_SUFFIXES or (suffix in HEIF_SUFFIXES and _has_heif())


def is_other_image_name(path: Path) -> bool:
    """Return whether a file has the extension of an image that cannot be read."""
    suffix = path.suffix.lower()
    return suffix in _OTHER_SUFFIXES or (suffix in HEIF_SUFFIXES and not _has_heif())


def missing_package(suffixes: set[str]) -> str:
    """Return the package that formats need and its command, or ""."""
    if not suffixes & HEIF_SUFFIXES or _has_heif():
        return ""
    return f"For .heic and .heif files, install pillow-heif: {install_command('heif')}"


@functools.cache
def register_heif() -> bool:
    """Let Pillow read HEIF files. Return False if pillow-heif is not installed."""
    if not _has_heif():
        return False
    importlib.import_module("pillow_heif").register_heif_opener()
    return True


@functools.cache
def _has_heif() -> bool:
    return importlib.util.find_spec("pillow_heif") is not None
