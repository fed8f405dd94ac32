from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from stiefel_lora.data import Buckets
from stiefel_lora.data.unreadable import UnreadableImage

SIDES = st.integers(1, 6000)
BUCKETS = st.builds(
    Buckets,
    resolution=st.integers(4, 160).map(lambda k: 8 * k),
    enabled=st.booleans(),
    step=st.sampled_from([8, 16, 32, 64, 128]),
    max_aspect=st.floats(1, 8),
    allow_upscaling=st.just(True),
)


def test_buckets_of_sdxl_are_those_it_was_trained_on() -> None:
    """The sizes around the square of SDXL's paper (arXiv:2307.01952, appendix I)."""
    sizes = Buckets(1024, enabled=True).sizes
    published = {
        (1024, 1024),
        (1152, 896),
        (1216, 832),
        (1344, 768),
        (1536, 640),
        (1984, 512),
    }
    assert published <= set(sizes)
    assert {(height, width) for width, height in published} <= set(sizes)


@given(BUCKETS)
def test_buckets_have_about_the_area_of_the_square(buckets: Buckets) -> None:
    square = (buckets.resolution, buckets.resolution)
    assert square in buckets.sizes
    step = min(buckets.step, buckets.resolution)
    for width, height in buckets.sizes:
        assert (height, width) in buckets.sizes
        assert max(width, height) <= buckets.max_aspect * min(width, height)
        assert width * height <= buckets.resolution**2
        if (width, height) != square:
            assert width % step == height % step == 0
            # Rounding takes less than a step of the shorter side.
            assert (min(width, height) + step) * max(width, height) > (
                buckets.resolution**2
            )


@given(BUCKETS, SIDES, SIDES)
def test_an_image_goes_to_the_nearest_shape(
    buckets: Buckets, width: int, height: int
) -> None:
    chosen = buckets.size_for((width, height))

    def distance(size: tuple[int, int]) -> float:
        return abs(math.log(size[0] / size[1]) - math.log(width / height))

    assert distance(chosen) == min(map(distance, buckets.sizes))


@given(BUCKETS, st.integers(8, 2000))
def test_square_images_stay_square(buckets: Buckets, side: int) -> None:
    assert buckets.size_for((side, side)) == (buckets.resolution, buckets.resolution)


@given(
    st.integers(4, 160).map(lambda k: 8 * k),
    st.sampled_from([8, 64, 128]),
    SIDES,
    SIDES,
)
def test_nothing_is_enlarged_unless_asked(
    resolution: int, step: int, width: int, height: int
) -> None:
    buckets = Buckets(resolution, enabled=True, step=step, max_aspect=4.0)
    step = min(step, resolution)
    if min(width, height) < step:
        with pytest.raises(UnreadableImage, match="Set allow_upscaling"):
            buckets.size_for((width, height))
        return
    size = buckets.size_for((width, height))
    assert size[0] <= width
    assert size[1] <= height
    assert size[0] * size[1] <= resolution**2
    assert max(size) <= max(4 * min(size), step)


def test_small_images_get_a_bucket_of_their_own_size() -> None:
    buckets = Buckets(1024, enabled=True)
    assert buckets.size_for((700, 500)) == (640, 448)
    assert buckets.size_for((700, 70)) == (256, 64)
    larger = Buckets(1024, enabled=True, allow_upscaling=True)
    assert larger.size_for((700, 500)) in larger.sizes


def test_without_buckets_everything_is_square() -> None:
    buckets = Buckets(512)
    assert buckets.size_for((4000, 100)) == (512, 512)
    assert buckets.size_for((20, 10)) == (512, 512)
