"""Augmentation of images: crop, flip and colors.

It depends only on the name of the file and the number of times the image was used.
"""

from __future__ import annotations

import dataclasses
import random
from typing import TYPE_CHECKING

from .framing import Frame, cover_frame

if TYPE_CHECKING:
    from ..config import Concept
    from .buckets import Size

__all__ = ["Augmentation", "augmentation_at", "augmentation_count"]

_VARIATIONS = 4


@dataclasses.dataclass(frozen=True)
class Augmentation:
    """Crop, flip and color changes of an image."""

    frame: Frame
    """Crop, which is applied after flipping."""

    mirrored: bool = False
    brightness: float = 1.0
    """Factor of the brightness."""

    contrast: float = 1.0
    saturation: float = 1.0
    hue: float = 0.0
    """Hue rotation as a fraction of 180 degrees, from -1 to 1."""

    @property
    def colors(self) -> list[float]:
        """Return the color factors and the hue rotation. [1, 1, 1, 0] is no change."""
        return [self.brightness, self.contrast, self.saturation, self.hue]

    @property
    def place(self) -> list[int]:
        """Return numbers that determine the origin of every pixel, for a cache key."""
        return [*self.frame.scaled, *self.frame.box, int(self.mirrored)]


def augmentation_count(concept: Concept) -> int:
    """Return the number of versions of an image that are encoded."""
    if not _varies(concept):
        return 1
    return concept.image_variations or _VARIATIONS


def augmentation_at(
    name: str, original: Size, size: Size, concept: Concept, number: int
) -> Augmentation:
    """Compute version ``number`` of an image.

    Args:
        name: name of the file.
        original: width and height of the upright image.
        size: bucket of the image.
        concept: concept with the settings of augmentation.
        number: number of the version.
    """
    if not _varies(concept):
        return Augmentation(cover_frame(original, size))
    # Every other visit, starting at the first or second one depending on the image.
    mirrored = bool((number + random.Random(name).getrandbits(1)) % 2)
    # Seeded by name and number, not by the run: the cache is valid for all runs.
    chance = random.Random(f"{name}/{number}")
    place = (chance.random(), chance.random())
    frame = cover_frame(
        original, size, place if concept.enable_crop_jitter else (0.5, 0.5)
    )
    # All are drawn, used or not: enabling one does not change the others.
    drawn = [chance.uniform(-1, 1) for _ in range(4)]
    brightness, contrast, saturation, hue = (
        round(strength * share, 3)
        for strength, share in zip(_strengths(concept), drawn, strict=True)
    )
    return Augmentation(
        frame=frame,
        mirrored=concept.enable_random_flip and mirrored,
        brightness=1 + brightness,
        contrast=1 + contrast,
        saturation=1 + saturation,
        hue=hue,
    )


def _strengths(concept: Concept) -> tuple[float, float, float, float]:
    return (
        concept.random_brightness_max_strength,
        concept.random_contrast_max_strength,
        concept.random_saturation_max_strength,
        concept.random_hue_max_strength,
    )


def _varies(concept: Concept) -> bool:
    moves = concept.enable_random_flip or concept.enable_crop_jitter
    return moves or any(_strengths(concept))
