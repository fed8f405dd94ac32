from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from stiefel_lora.data import cover_frame, square_frame

SIDES = st.integers(1, 5000)


@given(SIDES, SIDES, st.integers(4, 128).map(lambda k: 8 * k))
def test_square_lies_inside_the_scaled_image(
    width: int, height: int, side: int
) -> None:
    frame = square_frame((width, height), side)
    left, top, right, bottom = frame.box
    assert left >= 0
    assert right <= frame.scaled[0]
    assert top >= 0
    assert bottom <= frame.scaled[1]
    assert (right - left, bottom - top) == (side, side)
    assert min(frame.scaled) == side
    assert abs(left - (frame.scaled[0] - right)) <= 1
    assert frame.time_ids == (height, width, top, left, side, side)


def test_time_ids_are_height_before_width() -> None:
    assert square_frame((200, 100), 64).time_ids == (100, 200, 0, 32, 64, 64)


@given(SIDES, SIDES, SIDES, SIDES, st.floats(0, 1), st.floats(0, 1))
def test_the_piece_lies_inside_an_image_that_just_covers_it(
    width: int, height: int, wanted_width: int, wanted_height: int, x: float, y: float
) -> None:
    size = (wanted_width, wanted_height)
    frame = cover_frame((width, height), size, (x, y))
    left, top, right, bottom = frame.box
    assert (right - left, bottom - top) == size
    assert 0 <= left <= right <= frame.scaled[0]
    assert 0 <= top <= bottom <= frame.scaled[1]
    assert frame.scaled[0] == size[0] or frame.scaled[1] == size[1]
