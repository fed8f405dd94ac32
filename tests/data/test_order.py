from __future__ import annotations

from collections import Counter
from fractions import Fraction

from hypothesis import given
from hypothesis import strategies as st

from stiefel_lora.data import DataOrder, Visit

RATES = st.lists(st.integers(1, 4), min_size=1, max_size=8)
FRACTIONS = st.fractions(min_value=0, max_value=3, max_denominator=6)


@st.composite
def orders(draw: st.DrawFn, rates: st.SearchStrategy = FRACTIONS):
    """Rates, buckets, seed and batch size; at least one image comes up."""
    count = draw(st.integers(1, 12))
    found = draw(st.lists(rates, min_size=count, max_size=count))
    if not any(found):
        found[0] = Fraction(1)
    buckets = draw(st.lists(st.integers(0, 3), min_size=count, max_size=count))
    return found, buckets, draw(st.integers(0, 2**32 - 1)), draw(st.integers(1, 5))


@given(RATES, st.integers(0, 2**32 - 1), st.integers(0, 40))
def test_every_pass_shows_every_image_as_often_as_it_repeats(
    repeats: list[int], seed: int, epoch: int
) -> None:
    order = DataOrder(repeats, seed)
    length = order.epoch_length
    seen = Counter(v.image for v in order.batch(epoch * length, length))
    assert seen == {i: count for i, count in enumerate(repeats)}


@given(orders(st.integers(1, 4)), st.integers(1, 6))
def test_every_bucket_passes_through_all_its_images(settings, passes: int) -> None:
    """Nothing is lost or doubled at the end of a pass, where batches lie across it."""
    repeats, buckets, seed, size = settings
    order = DataOrder(repeats, seed, buckets)
    rows: dict[int, list[int]] = {bucket: [] for bucket in buckets}
    per_pass = Counter()
    for image, bucket in enumerate(buckets):
        per_pass[bucket] += repeats[image]
    total = sum(passes * n // size for n in per_pass.values())
    for k in range(total):
        for visit in order.batch(k * size, size):
            rows[buckets[visit.image]].append(visit.image)
    for bucket, row in rows.items():
        length = per_pass[bucket]
        # After whole passes, less than a batch of each bucket is still to come.
        assert len(row) == passes * length // size * size
        for start in range(0, len(row) - length + 1, length):
            seen = Counter(row[start : start + length])
            assert seen == {
                i: repeats[i] for i, own in enumerate(buckets) if own == bucket
            }


@given(orders())
def test_batches_are_full_and_of_one_bucket(settings) -> None:
    rates, buckets, seed, size = settings
    order = DataOrder(rates, seed, buckets)
    for k in range(20):
        batch = order.batch(k * size, size)
        assert len(batch) == size
        assert len({buckets[visit.image] for visit in batch}) == 1


@given(orders(), st.integers(0, 60))
def test_order_is_a_function_of_the_position_alone(settings, resumed_at: int) -> None:
    rates, buckets, seed, size = settings
    whole = DataOrder(rates, seed, buckets)
    batches = [whole.batch(k * size, size) for k in range(resumed_at + 3)]
    resumed = DataOrder(rates, seed, buckets)
    for k in range(resumed_at, resumed_at + 3):
        assert resumed.batch(k * size, size) == batches[k]
    assert whole.batch(0, size) == batches[0]


@given(orders(), st.integers(1, 30))
def test_visits_of_an_image_are_numbered(settings, batches: int) -> None:
    rates, buckets, seed, size = settings
    order = DataOrder(rates, seed, buckets)
    numbers: dict[int, list[int]] = {}
    for k in range(batches):
        for visit in order.batch(k * size, size):
            numbers.setdefault(visit.image, []).append(visit.number)
    for found in numbers.values():
        # Within a pass visits are shuffled, so one may overtake another of its pass.
        assert len(set(found)) == len(found)
        assert max(found) < len(found) + 4


@given(st.integers(1, 20), FRACTIONS.filter(bool), st.integers(1, 12))
def test_fractions_take_turns(images: int, rate: Fraction, passes: int) -> None:
    order = DataOrder([rate] * images, seed=3)
    count = int(passes * images * rate)
    seen = Counter(visit.image for visit in order.batch(0, count) if count)
    assert (
        max(seen.values(), default=0) - min((seen[i] for i in range(images)), default=0)
        <= 1
    )


def test_seeds_and_passes_differ() -> None:
    first = DataOrder([1] * 50, seed=1)
    shown = [visit.image for visit in first.batch(0, 100)]
    assert shown[:50] != shown[50:]
    assert first.batch(0, 50) != DataOrder([1] * 50, seed=2).batch(0, 50)


def test_order_is_the_same_for_ever() -> None:
    # A change here would make resumed runs see other images than before.
    shown = DataOrder([1] * 8, seed=42).batch(0, 10)
    assert [visit.image for visit in shown] == ORDER
    assert shown[-1] == Visit(0, 1)
    buckets = [0, 1, 0, 0, 1, 0]
    order = DataOrder([1, 1, 1, 2, 1, 1], seed=42, buckets=buckets)
    assert [[v.image for v in order.batch(2 * k, 2)] for k in range(7)] == BATCHES


ORDER = [1, 2, 5, 7, 6, 0, 3, 4, 4, 0]
BATCHES = [[1, 4], [5, 2], [0, 3], [3, 0], [4, 1], [3, 2], [3, 5]]
