r"""The order in which images come up, as a pure function of seed and position.

Which images stand at a position needs no history, so a position in a checkpoint is
all that an exact resume takes.

*Turns.* Images of one bucket and one rate (how often an image comes up in a pass)
take turns: round after round, each comes up once. In the first e passes n images of
rate :math:`\rho` come up :math:`\lfloor e\, n\, \rho \rfloor` times together. With a
whole rate a pass is whole rounds: every image comes up exactly :math:`\rho` times.

*Buckets.* Each bucket is an endless row of passes, each pass a seeded shuffle. Batches
are cut from that row one after the other, so a batch holds images of one size, is
always full, and may reach across the end of a pass: what is left of a bucket at the end
of a pass comes first in its next one. No image is lost or doubled.

*Batches.* A pass has the batches of k that its buckets complete in it,
:math:`\lfloor N_b(e+1)/k \rfloor - \lfloor N_b(e)/k \rfloor` of bucket b, whose first e
passes have :math:`N_b(e)` images. Which bucket is next is shuffled.
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
    """An image and how often it came up before."""

    image: int
    """Its index."""

    number: int
    """0 at its first time."""


class DataOrder:
    """Endless seeded order of images in batches of one bucket each.

    Args:
        rates: how often each image comes up in a pass; fractions are allowed.
        seed: of the run.
        buckets: what images of one batch must have in common; without it all do.
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
        """Images in the first pass, repeats counted."""
        return sum(row.until(1) for row in self._rows)

    def batch(self, position: int, size: int) -> list[Visit]:
        """The ``size`` images after ``position`` (0, 1, ...) others of the run.

        With several buckets positions are multiples of ``size``.
        """
        if len(self._rows) == 1:
            return self._rows[0].visits(position, size)
        number = position // size
        passes = _pass_of(number, lambda e: self._batches_until(e, size))
        before = self._batches_until(passes, size)
        bucket, turn = self._shuffle(passes, size)[number - before]
        return self._rows[bucket].visits(turn * size, size)

    def _batches_until(self, passes: int, size: int) -> int:
        return sum(row.until(passes) // size for row in self._rows)

    def _batches_of(self, passes: int, size: int) -> list[tuple[int, int]]:
        """Bucket, and number of the batch in its bucket, of every batch of a pass."""
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
    """Images of one rate, which come up in rounds."""

    def __init__(self, rate: Fraction, images: list[int], seed: int) -> None:
        self._images = images
        self._together = len(images) * rate
        self._seed = seed

    def until(self, passes: int) -> int:
        """How many come up in the first ``passes`` passes."""
        return int(passes * self._together)

    def of_pass(self, number: int) -> list[Visit]:
        """Those of one pass, by image."""
        count = len(self._images)
        start, end = self.until(number), self.until(number + 1)
        rounds = range(start // count, -(-end // count))
        # A pass may begin and end inside a round, where the rate is a fraction.
        return sorted(
            Visit(image, turn)
            for turn in rounds
            for image in self._round(turn)[
                max(start - turn * count, 0) : max(end - turn * count, 0)
            ]
        )

    def _round(self, turn: int) -> list[int]:
        shuffled = list(self._images)
        random.Random(f"{self._seed}/round {turn}/{shuffled[0]}").shuffle(shuffled)
        return shuffled


class _Row:
    """The endless row of images of one bucket."""

    def __init__(self, turns: list[_Turns], seed: int, number: int) -> None:
        self._turns = turns
        self._seed = seed
        # The first bucket goes on as it did before there were others.
        self._label = f"/{number}" if number else ""
        # A batch may lie in two passes.
        self._shuffle = functools.lru_cache(maxsize=2)(self._shuffled)

    def until(self, passes: int) -> int:
        """Images in the first ``passes`` passes."""
        return sum(turns.until(passes) for turns in self._turns)

    def visits(self, position: int, count: int) -> list[Visit]:
        """The ``count`` images after ``position`` others."""
        found: list[Visit] = []
        passes = _pass_of(position, self.until)
        offset = position - self.until(passes)
        while len(found) < count:
            row = self._shuffle(passes)
            found += row[offset : offset + count - len(found)]
            passes, offset = passes + 1, 0
        return found

    def _shuffled(self, passes: int) -> list[Visit]:
        visits = sorted(v for turns in self._turns for v in turns.of_pass(passes))
        # A text seed is hashed by SHA-512: the same on every machine and version,
        # and neighboring seeds and passes share nothing.
        random.Random(f"{self._seed}/{passes}{self._label}").shuffle(visits)
        return visits


def _pass_of(place: int, until: Callable[[int], int]) -> int:
    """The pass e with until(e) <= place < until(e + 1)."""
    high = 1
    while until(high) <= place:
        high *= 2
    return bisect.bisect_right(range(high + 1), place, key=until) - 1
