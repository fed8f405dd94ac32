r"""Order of the training images, as a function of the seed and the position.

The images at a position do not depend on previous batches, so that a checkpoint only
stores the position.

*Rounds.* Images of a bucket with the same rate (number of uses per epoch) are used in
rounds. In each round, every image is used once. In the first e epochs, n images of rate
:math:`\rho` are used :math:`\lfloor e\, n\, \rho \rfloor` times in total. With an
integer rate, every image is used exactly :math:`\rho` times per epoch.

*Buckets.* The images of a bucket are an infinite sequence of epochs, each of which is
shuffled. Batches are consecutive slices of this sequence. Therefore, all images of a
batch have the same size, batches are always full, and a batch can contain images of two
epochs. No image is skipped or repeated.

*Batches.* In epoch e, bucket b has :math:`\lfloor N_b(e+1)/k \rfloor - \lfloor N_b(e)/k
\rfloor` batches of size k, where :math:`N_b(e)` is the number of images of its first e
epochs. The order of the batches of different buckets is shuffled.
"""

from __future__ import annotations

import bisect
import functools
import itertools
import random
from collections.abc import Callable, Hashable, Sequence
from fractions import Fraction
from typing import NamedTuple

__all__ = ["DataOrder", "Visit"]


class Visit(NamedTuple):
    """Use of an image in a batch."""

    image: int
    """Index of the image."""

    number: int
    """Number of times that the image was used before."""


class DataOrder:
    """Infinite random order of images, in batches of the same bucket.

    Args:
        rates: number of times that each image is used per epoch, which can be a
            fraction.
        seed: seed of the run.
        buckets: bucket of each image. All images of a batch have the same bucket. By
            default, there is a single bucket.
    """

    def __init__(
        self,
        rates: Sequence[int | Fraction],
        seed: int,
        buckets: Sequence[Hashable] | None = None,
    ) -> None:
        members: dict[Hashable, dict[Fraction, list[int]]] = {}
        for image, rate in enumerate(rates):
            bucket = buckets[image] if buckets is not None else None
            turns = members.setdefault(bucket, {})
            turns.setdefault(Fraction(rate), []).append(image)
        self._rows = [
            _Row([_Turns(*turn, seed) for turn in turns.items()], seed, number)
            for number, turns in enumerate(members.values())
        ]
        self._seed = seed
        self._shuffle = functools.lru_cache(maxsize=2)(self._batches_of)

    @property
    def epoch_length(self) -> int:
        """Return the number of images in the first epoch, including repeats."""
        return sum(row.until(1) for row in self._rows)

    def batch(self, position: int, size: int) -> list[Visit]:
        """Return the batch of ``size`` images after the first ``position`` images.

        With several buckets, ``position`` must be a multiple of ``size``.
        """
        if len(self._rows) == 1:
            return self._rows[0].visits(position, size)
        # Every batch has the same size, so the position determines the number of the
        # batch.
        number = position // size
        passes = _pass_of(number, lambda e: self._batches_until(e, size))
        before = self._batches_until(passes, size)
        bucket, turn = self._shuffle(passes, size)[number - before]
        return self._rows[bucket].visits(turn * size, size)

    def _batches_until(self, passes: int, size: int) -> int:
        return sum(row.until(passes) // size for row in self._rows)

    def _batches_of(self, passes: int, size: int) -> list[tuple[int, int]]:
        """Return the bucket of every batch of an epoch, and its number there."""
        # A batch that spans two epochs belongs to the epoch that completes it.
        done = [row.until(passes) // size for row in self._rows]
        new = [
            row.until(passes + 1) // size - n
            for row, n in zip(self._rows, done, strict=True)
        ]
        buckets = [bucket for bucket, count in enumerate(new) for _ in range(count)]
        random.Random(f"{self._seed}/{passes}/batches").shuffle(buckets)
        turns = [itertools.count(n) for n in done]
        return [(bucket, next(turns[bucket])) for bucket in buckets]


class _Turns:
    """Images of the same rate, which are used in rounds."""

    def __init__(self, rate: Fraction, images: list[int], seed: int) -> None:
        self._images = images
        self._together = len(images) * rate
        self._seed = seed

    def until(self, passes: int) -> int:
        """Return the number of uses in the first ``passes`` epochs."""
        # Exact, since rates are fractions: as floats, 100 images at a rate of 0.29
        # would have 28 visits in the first epoch, because 0.29 * 100 is
        # 28.999999999999996.
        return int(passes * self._together)

    def of_pass(self, number: int) -> list[Visit]:
        """Return the uses of images in an epoch, sorted by image."""
        count = len(self._images)
        start, end = self.until(number), self.until(number + 1)
        rounds = range(start // count, -(-end // count))
        # With a fractional rate, an epoch may begin and end inside a round.
        return sorted(
            Visit(image, turn)
            for turn in rounds
            for image in self._round(turn)[
                max(start - turn * count, 0) : max(end - turn * count, 0)
            ]
        )

    def _round(self, turn: int) -> list[int]:
        shuffled = list(self._images)
        # The first image identifies the group: groups of one bucket shuffle
        # differently.
        random.Random(f"{self._seed}/round {turn}/{shuffled[0]}").shuffle(shuffled)
        return shuffled


class _Row:
    """Infinite sequence of the images of a bucket."""

    def __init__(self, turns: list[_Turns], seed: int, number: int) -> None:
        self._turns = turns
        self._seed = seed
        # The first bucket has no label, so that runs from before buckets existed keep
        # their order.
        self._label = f"/{number}" if number else ""
        # A batch may span two epochs.
        self._shuffle = functools.lru_cache(maxsize=2)(self._shuffled)

    def until(self, passes: int) -> int:
        """Return the number of images in the first ``passes`` epochs."""
        return sum(turns.until(passes) for turns in self._turns)

    def visits(self, position: int, count: int) -> list[Visit]:
        """Return the ``count`` images that follow the first ``position``."""
        found: list[Visit] = []
        passes = _pass_of(position, self.until)
        offset = position - self.until(passes)
        while len(found) < count:
            row = self._shuffle(passes)
            found += row[offset : offset + count - len(found)]
            passes, offset = passes + 1, 0
        return found

    def _shuffled(self, passes: int) -> list[Visit]:
        # Sorted first: a shuffle permutes places, so its result would depend on how the
        # images are grouped by rate.
        visits = sorted(v for turns in self._turns for v in turns.of_pass(passes))
        # A string seed is hashed by SHA-512: independent of machine and version, and
        # neighboring seeds and epochs are uncorrelated.
        random.Random(f"{self._seed}/{passes}{self._label}").shuffle(visits)
        return visits


def _pass_of(place: int, until: Callable[[int], int]) -> int:
    """Find the epoch e with until(e) <= place < until(e + 1)."""
    # until() is nondecreasing but has no closed inverse: double, then bisect.
    high = 1
    while until(high) <= place:
        high *= 2
    return bisect.bisect_right(range(high + 1), place, key=until) - 1
