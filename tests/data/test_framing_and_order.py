from __future__ import annotations

from collections import Counter

from hypothesis import given
from hypothesis import strategies as st

from stiefel_lora.data import DataOrder, square_frame

SIDES = st.integers(1, 5000)


@given(SIDES, SIDES, st.integers(4, 128).map(lambda k: 8 * k))
def test_square_lies_inside_the_scaled_picture(
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


@given(
    st.lists(st.integers(1, 4), min_size=1, max_size=8),
    st.integers(0, 2**32 - 1),
    st.integers(0, 40),
)
def test_every_pass_shows_every_picture_as_often_as_it_repeats(
    repeats: list[int], seed: int, epoch: int
) -> None:
    order = DataOrder(repeats, seed)
    length = order.epoch_length
    seen = Counter(order.batch(epoch * length, length))
    assert seen == {i: count for i, count in enumerate(repeats)}


@given(st.integers(1, 20), st.integers(0, 200), st.integers(1, 7))
def test_order_is_a_function_of_the_position_alone(
    pictures: int, position: int, size: int
) -> None:
    order = DataOrder([1] * pictures, seed=5)
    whole = [DataOrder([1] * pictures, seed=5).at(k) for k in range(position + size)]
    assert order.batch(position, size) == whole[position:]
    assert order.batch(0, 1) == whole[:1]


def test_seeds_and_passes_differ() -> None:
    first = DataOrder([1] * 50, seed=1)
    assert first.batch(0, 50) != first.batch(50, 50)
    assert first.batch(0, 50) != DataOrder([1] * 50, seed=2).batch(0, 50)


def test_order_is_the_same_for_ever() -> None:
    # A change here would make resumed runs see other pictures than before.
    assert DataOrder([1] * 8, seed=42).batch(0, 10) == ORDER


ORDER = [1, 2, 5, 7, 6, 0, 3, 4, 4, 0]
