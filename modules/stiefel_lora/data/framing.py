"""Which part of a picture training sees, and at which size; standard library only.

One function from a picture's size to its ``Frame``. Buckets of other aspect ratios are
another such function; whatever reads pictures needs the frame alone.
"""

from __future__ import annotations

import dataclasses

__all__ = ["Frame", "square_frame"]


@dataclasses.dataclass(frozen=True)
class Frame:
    """Sizes in pixels: the file's, after scaling, and of the piece cut from that."""

    original: tuple[int, int]
    """Width and height of the picture, upright."""

    scaled: tuple[int, int]
    """Width and height after scaling."""

    left: int
    """First column of the piece."""

    top: int
    """First row of the piece."""

    size: tuple[int, int]
    """Width and height of the piece: what training sees."""

    @property
    def box(self) -> tuple[int, int, int, int]:
        """Left, top, right and bottom of the piece in the scaled picture."""
        width, height = self.size
        return self.left, self.top, self.left + width, self.top + height

    @property
    def time_ids(self) -> tuple[int, int, int, int, int, int]:
        """What SDXL is told of it: (height, width) of the file, crop, target."""
        (width, height), (target_width, target_height) = self.original, self.size
        return height, width, self.top, self.left, target_height, target_width


def square_frame(original: tuple[int, int], side: int) -> Frame:
    """Scale the shorter side to ``side`` and cut the middle square.

    >>> square_frame((200, 100), 64).box
    (32, 0, 96, 64)
    """
    width, height = original
    if width < height:
        scaled = side, max(side, round(height * side / width))
    else:
        scaled = max(side, round(width * side / height)), side
    left, top = (scaled[0] - side) // 2, (scaled[1] - side) // 2
    return Frame(original, scaled, left, top, (side, side))
