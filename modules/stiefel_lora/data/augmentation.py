"""Augmentation of images: crop, flip and colors.

It depends only on the name of the file and the number of times the image was used.
"""

from __future__ import annotations

import dataclasses
import random
from collections.abc import Sequence
from typing import TYPE_CHECKING

from ..config.alpha_background import WHITE
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

    background: str = WHITE
    """Color of transparent areas, or ``HIDDEN`` for their own colors."""

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
    fixed = _fixed(concept)
    if not _varies(concept):
        return _colored(cover_frame(original, size), _strengths(concept), fixed[0])
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
    changes = [
        strength if is_fixed else round(strength * share, 3)
        for strength, share, is_fixed in zip(
            _strengths(concept), drawn, fixed[1:], strict=True
        )
    ]
    return _colored(
        frame, changes, mirrored if concept.enable_random_flip else fixed[0]
    )


def _colored(frame: Frame, changes: Sequence[float], mirrored: bool) -> Augmentation:
    brightness, contrast, saturation, hue = changes
    return Augmentation(
        frame=frame,
        mirrored=mirrored,
        brightness=1 + brightness,
        contrast=1 + contrast,
        saturation=1 + saturation,
        hue=hue,
    )


def _fixed(concept: Concept) -> tuple[bool, bool, bool, bool, bool]:
    """Return whether the flip and each change of colors is always the same."""
    return (
        concept.enable_fixed_flip,
        concept.enable_fixed_brightness,
        concept.enable_fixed_contrast,
        concept.enable_fixed_saturation,
        concept.enable_fixed_hue,
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
    colors = zip(_strengths(concept), _fixed(concept)[1:], strict=True)
    return moves or any(strength and not is_fixed for strength, is_fixed in colors)
