"""Effective rank of every block over time, for the heat map."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ...metrics.tags import EFFECTIVE, ORTHOGONALITY, STABLE

__all__ = ["BAR", "HINT", "NO_RANKS", "TITLE", "RankTable"]

TITLE = "Effective rank of every block"
BAR = ("Effective rank / rank", [(n / 4, f"{25 * n} %") for n in range(5)])
"""Label of the color bar, and its ticks from 0 to 1."""

HINT = (
    "Yellow blocks use all directions of their rank, dark blocks only a few. Hover "
    "over a cell to show its values."
)
NO_RANKS = (
    "A column is added to the heat map each time the ranks are measured during "
    "training."
)

_KINDS = (EFFECTIVE, STABLE, ORTHOGONALITY)
_FIRST_ROOM = 64


class RankTable:
    """Matrix with a column per measurement and a row per block.

    Attributes:
        rank: LoRA rank, or 0 if it is not known yet.
        blocks: names of the blocks, such as ``down_blocks.1/attentions.0.proj_in``.
        steps: training step of each column.
    """

    def __init__(self) -> None:
        self.rank = 0.0
        self.blocks: list[str] = []
        self.steps: list[int] = []
        self._shares = np.zeros((0, 0), dtype=np.uint8)
        self._numbers: dict[str, NDArray[np.float32]] = {}

    @property
    def shares(self) -> NDArray[np.uint8]:
        """Effective rank / rank, scaled to 0 to 255, shape (measurements, blocks)."""
        return self._shares[: len(self.steps)]

    def add(self, step: int, values: Mapping[str, Any]) -> None:
        """Add the measurement of ``step``, replacing one of the same step."""
        start = f"{_KINDS[0]}."
        names = [tag.removeprefix(start) for tag in values if tag.startswith(start)]
        if not names:
            return
        if names != self.blocks:
            # The blocks have changed: a new model, so start a new table.
            self.blocks, self.steps = names, []
            self._shares = np.zeros((0, len(names)), dtype=np.uint8)
            self._numbers = {kind: _nothing(0, len(names)) for kind in _KINDS}
        self.cut(step - 1)
        place = len(self.steps)
        if place == len(self._shares):
            self._grow(max(_FIRST_ROOM, 2 * place))
        for kind, array in self._numbers.items():
            found = [values.get(f"{kind}.{name}") for name in names]
            # NaN is null in JSON.
            array[place] = np.array(found, dtype=np.float32)
        effective = np.nan_to_num(self._numbers[_KINDS[0]][place])
        rank = self.rank or float(effective.max()) or 1.0
        shares = np.clip(effective / rank, 0.0, 1.0)
        self._shares[place] = np.rint(shares * 255).astype(np.uint8)
        self.steps.append(step)

    def cut(self, step: int) -> None:
        """Remove the measurements after ``step``."""
        while self.steps and self.steps[-1] > step:
            self.steps.pop()

    def describe(self, column: int, row: int) -> str:
        """Return the values of a block in a measurement as text."""
        effective, stable, error = (
            float(self._numbers[kind][column, row]) for kind in _KINDS
        )
        of = f" of {self.rank:g}" if self.rank else ""
        parts = [
            f"step {self.steps[column]}",
            self.blocks[row].replace("/", "."),
            f"effective rank {effective:.1f}{of}",
            f"stable rank {stable:.1f}",
        ]
        if not np.isnan(error):
            parts.append(f"B orthonormal to {error:.0e}")
        return "   ".join(parts)

    def sections(self) -> Sequence[tuple[int, str]]:
        """Return the first row and name of each section of the model."""
        found: list[tuple[int, str]] = []
        for row, name in enumerate(self.blocks):
            section = name.partition("/")[0]
            if not found or found[-1][1] != section:
                found.append((row, section))
        return found

    def _grow(self, room: int) -> None:
        used, blocks = len(self._shares), len(self.blocks)
        shares = np.zeros((room, blocks), dtype=np.uint8)
        shares[:used] = self._shares
        self._shares = shares
        for kind, old in self._numbers.items():
            self._numbers[kind] = _nothing(room, blocks)
            self._numbers[kind][:used] = old


def _nothing(rows: int, columns: int) -> NDArray[np.float32]:
    return np.full((rows, columns), np.nan, dtype=np.float32)
