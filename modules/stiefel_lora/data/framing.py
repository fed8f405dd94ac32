"""Computation of the size and crop of an image."""

from __future__ import annotations

import dataclasses

__all__ = ["Frame", "cover_frame", "square_frame"]


@dataclasses.dataclass(frozen=True)
class Frame:
    """Size and crop of an image in pixels."""

    original: tuple[int, int]
    """Width and height of the image file, after applying the EXIF orientation."""

    scaled: tuple[int, int]
    """Width and height after scaling."""

    left: int
    """First column of the crop."""

    top: int
    """First row of the crop."""

    size: tuple[int, int]
    """Width and height of the crop."""

    @property
    def box(self) -> tuple[int, int, int, int]:
        """Return left, top, right and bottom of the crop in the scaled image."""
        width, height = self.size
        return self.left, self.top, self.left + width, self.top + height

    @property
    def time_ids(self) -> tuple[int, int, int, int, int, int]:
        """Return the input of SDXL: (height, width) of original, crop and target."""
        (width, height), (target_width, target_height) = self.original, self.size
        return height, width, self.top, self.left, target_height, target_width


def cover_frame(
    original: tuple[int, int],
    size: tuple[int, int],
    place: tuple[float, float] = (0.5, 0.5),
) -> Frame:
    """Compute the frame that scales an image to cover ``size`` and crops it.

    Args:
        original: width and height of the image.
        size: width and height of the crop.
        place: position of the crop, from 0 (left, top) to 1 (right, bottom). The
            default is the center.

    >>> cover_frame((200, 100), (64, 64)).box
    (32, 0, 96, 64)
    >>> cover_frame((200, 100), (64, 32)).scaled
    (64, 32)
    """
    (width, height), (wanted_width, wanted_height) = original, size
    if wanted_width * height >= wanted_height * width:
        scaled = wanted_width, max(wanted_height, round(height * wanted_width / width))
    else:
        scaled = max(wanted_width, round(width * wanted_height / height)), wanted_height
    left = int((scaled[0] - wanted_width) * place[0])
    top = int((scaled[1] - wanted_height) * place[1])
    return Frame(original, scaled, left, top, size)


def square_frame(original: tuple[int, int], side: int) -> Frame:
    """Compute the frame that scales the shorter side to ``side`` and crops the center.

    >>> square_frame((200, 100), 64).box
    (32, 0, 96, 64)
    """
    return cover_frame(original, (side, side))
