"""Values over steps in arrays."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

__all__ = ["Series"]


class Series:
    """Pairs of step and value, in order of arrival."""

    def __init__(self) -> None:
        self._steps = np.empty(256, dtype=np.float64)
        self._values = np.empty(256, dtype=np.float64)
        self._count = 0

    def __len__(self) -> int:
        return self._count

    @property
    def steps(self) -> NDArray[np.float64]:
        """Steps, shape (count,)."""
        return self._steps[: self._count]

    @property
    def values(self) -> NDArray[np.float64]:
        """Values, shape (count,)."""
        return self._values[: self._count]

    @property
    def last(self) -> float | None:
        """Last value."""
        return float(self._values[self._count - 1]) if self._count else None

    def add(self, step: int, value: float) -> None:
        """Append a pair."""
        if self._count == len(self._steps):
            self._steps = np.resize(self._steps, 2 * self._count)
            self._values = np.resize(self._values, 2 * self._count)
        self._steps[self._count] = step
        self._values[self._count] = value
        self._count += 1

    def cut(self, step: int) -> None:
        """Remove all pairs after ``step``."""
        self._count = int((self.steps <= step).sum())
