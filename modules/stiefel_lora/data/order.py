"""The order in which pictures come up, as a pure function of seed and position.

Passes over the data ("epochs") are seeded shuffles one after the other. Which picture
stands at a position needs no history, so a position in a checkpoint is all that an
exact resume takes. A batch may reach across the end of a pass.
"""

from __future__ import annotations

import random
from collections.abc import Sequence

__all__ = ["DataOrder"]


class DataOrder:
    """Endless seeded order of ``repeats[i]`` copies of each picture i a pass."""

    def __init__(self, repeats: Sequence[int], seed: int) -> None:
        self._entries = [i for i, count in enumerate(repeats) for _ in range(count)]
        self._seed = seed
        self._epoch = -1
        self._shuffled: list[int] = []

    @property
    def epoch_length(self) -> int:
        """Pictures in one pass, repeats counted."""
        return len(self._entries)

    def at(self, position: int) -> int:
        """Index of the picture at ``position`` (0, 1, ...) of the whole run."""
        epoch, offset = divmod(position, len(self._entries))
        if epoch != self._epoch:
            self._epoch = epoch
            self._shuffled = list(self._entries)
            # A text seed is hashed by SHA-512: the same on every machine and version,
            # and neighbouring seeds and passes share nothing.
            random.Random(f"{self._seed}/{epoch}").shuffle(self._shuffled)
        return self._shuffled[offset]

    def batch(self, position: int, size: int) -> list[int]:
        """Indices of ``size`` pictures from ``position`` on."""
        return [self.at(position + k) for k in range(size)]
