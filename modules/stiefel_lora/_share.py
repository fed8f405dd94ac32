"""Share of one process in the work of a training on several processes."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import TypeVar

__all__ = ["WHOLE", "Share"]

T = TypeVar("T")


@dataclasses.dataclass(frozen=True)
class Share:
    """Position of a process among all processes.

    Batches are divided into consecutive parts of equal size, and other items, such as
    images to encode, are dealt in turn.
    """

    index: int = 0
    count: int = 1

    def part(self, batch: Sequence[T]) -> Sequence[T]:
        """Return the part of a batch, whose size must be a multiple of ``count``."""
        return batch[self.rows(len(batch) // self.count)]

    def rows(self, own: int) -> slice:
        """Return the rows of this process in a batch with ``own`` rows per process."""
        return slice(self.index * own, (self.index + 1) * own)

    def total(self, own: int) -> int:
        """Return the size of a batch with ``own`` rows per process."""
        return own * self.count

    def takes(self, number: int) -> bool:
        """Return whether this process does the item ``number``."""
        return number % self.count == self.index


WHOLE = Share()
"""Share of a single process."""
