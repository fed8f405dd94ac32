r"""Aspect ratio buckets: sizes of about equal area to which images are cropped.

For a resolution R and a step s, the buckets are R x R and, for every width w that is a
multiple of s, :math:`w \times s \lfloor R^2 / (w s) \rfloor`, in portrait and landscape
orientation, as long as the longer side is at most ``max_aspect`` times the shorter
side. No bucket has more pixels than R x R. An image is assigned to the bucket with the
nearest aspect ratio (difference of logarithms).

If an image is smaller than its bucket and upscaling is disabled, a bucket of the size
of the image is used, rounded down to a multiple of the step.
"""

from __future__ import annotations

import dataclasses
import functools
import math
from collections.abc import Sequence
from typing import TYPE_CHECKING

from .._wording import counted
from .unreadable import UnreadableImage

if TYPE_CHECKING:
    from ..config import TrainConfig

__all__ = [
    "MEGAPIXELS",
    "Buckets",
    "Size",
    "buckets_of",
    "check_pixels",
    "megapixels",
    "size_remark",
]

MEGAPIXELS = 179.0
"""Default of the maximum number of megapixels of an image, as in Pillow."""

Size = tuple[int, int]
"""Width and height in pixels."""


@dataclasses.dataclass(frozen=True)
class Buckets:
    """Sizes to which images are cropped."""

    resolution: int
    """Width and height of the square bucket in pixels."""

    enabled: bool = False
    """Whether there are other buckets. If not, all images are cropped to the square."""

    step: int = 64
    """Step between the side lengths of buckets."""

    max_aspect: float = 4.0
    """Maximum aspect ratio of a bucket."""

    allow_upscaling: bool = False
    """Whether images smaller than their bucket are enlarged."""

    max_megapixels: float = MEGAPIXELS
    """Maximum number of megapixels. Larger images are skipped."""

    extra: tuple[int, ...] = ()
    """Other resolutions at which images are also trained."""

    def sizes_for(
        self, original: Size, resolutions: Sequence[int] = ()
    ) -> tuple[Size, ...]:
        """Return the sizes to which an image is cropped, one for each resolution.

        An image that is too small for several of them has their common size once.

        Args:
            original: width and height of the image.
            resolutions: resolutions of the folder. By default, those of all folders.

        Raises:
            UnreadableImage: As :meth:`size_for`.
        """
        sides = resolutions or (self.resolution, *self.extra)
        found = [_at_resolution(self, side).size_for(original) for side in sides]
        return tuple(dict.fromkeys(found))

    @functools.cached_property
    def sizes(self) -> tuple[Size, ...]:
        """Return all buckets in the order of their width."""
        square = (self.resolution, self.resolution)
        if not self.enabled:
            return (square,)
        found = {square}
        area, step = self.resolution**2, self._step
        # From width * height <= area and width <= max_aspect * height.
        longest = math.isqrt(int(area * self.max_aspect))
        # Landscape from the square on; each is added with its mirrored portrait size.
        for width in range(self.resolution // step * step, longest + 1, step):
            height = area // width // step * step
            if 0 < height <= width <= self.max_aspect * height:
                found |= {(width, height), (height, width)}
        return tuple(sorted(found, key=lambda size: (size[0] / size[1], size)))

    def size_for(self, original: Size) -> Size:
        """Return the size to which an image of the size ``original`` is cropped.

        Raises:
            UnreadableImage: If the image is larger than allowed, or smaller than the
                smallest bucket and upscaling is disabled.
        """
        check_pixels(original, self.max_megapixels)
        aspect = math.log(original[0] / original[1])
        size = min(
            self.sizes,
            # Logarithms treat portrait and landscape alike; the larger bucket breaks
            # ties.
            key=lambda s: (abs(math.log(s[0] / s[1]) - aspect), -s[0] * s[1]),
        )
        fits = size[0] <= original[0] and size[1] <= original[1]
        if fits or self.allow_upscaling or not self.enabled:
            return size
        return self._own_size(original)

    @property
    def _step(self) -> int:
        # A larger step would round every size down to 0.
        return min(self.step, self.resolution)

    def _own_size(self, original: Size) -> Size:
        step = self._step
        width, height = (side // step * step for side in original)
        if not width or not height:
            raise UnreadableImage(
                f"its size of {original[0]} x {original[1]} pixels is smaller than "
                f"the bucket step of {step}. Set allow_upscaling to enlarge it"
            )
        # Images beyond the maximum aspect ratio or area are cropped.
        longest = max(step, int(self.max_aspect * min(width, height)) // step * step)
        return min(width, longest), min(height, longest)


@functools.lru_cache(maxsize=256)
def _at_resolution(buckets: Buckets, side: int) -> Buckets:
    return dataclasses.replace(buckets, resolution=side, extra=())


def megapixels(size: Size) -> float:
    """Return the number of megapixels."""
    return size[0] * size[1] / 1e6


def check_pixels(size: Size, most: float) -> None:
    """Check that an image has at most ``most`` megapixels.

    Raises:
        UnreadableImage: If the image has more pixels.
    """
    if megapixels(size) > most:
        raise UnreadableImage(
            f"its size of {size[0]} x {size[1]} = {megapixels(size):.1f} million "
            f"pixels is larger than max_image_megapixels={most:g}. Resize the "
            "image, or increase max_image_megapixels"
        )


def size_remark(sizes: Sequence[Size], buckets: Buckets) -> str:
    """Return a message about images that are smaller than the resolution, or "".

    Args:
        sizes: width and height of the images.
        buckets: the buckets.
    """
    if not buckets.enabled or buckets.allow_upscaling:
        return ""
    # An image of another aspect ratio has the same area, less a step in each direction.
    least = (buckets.resolution - min(buckets.step, buckets.resolution) / 2) ** 2
    small = [size for size in sizes if size[0] * size[1] < least]
    if not small:
        return ""
    width, height = min(small, key=lambda size: size[0] * size[1])
    count = counted(len(small), "image is smaller than", "images are smaller than")
    return (
        f"{count} the resolution {buckets.resolution}, without being enlarged (the "
        f"smallest is {width} x {height}). Use larger images, a lower resolution, or "
        "enable allow_upscaling."
    )


def buckets_of(config: TrainConfig) -> Buckets:
    """Return the buckets according to the configuration."""
    return Buckets(
        resolution=config.resolution,
        enabled=config.aspect_ratio_bucketing,
        step=config.bucket_step,
        max_aspect=config.max_aspect_ratio,
        allow_upscaling=config.allow_upscaling,
        max_megapixels=config.max_image_megapixels,
        extra=config.extra_resolutions,
    )
