"""Changes of a run since a view was last updated, so that only these are sent."""

from __future__ import annotations

import dataclasses
import itertools

import numpy as np
from numpy.typing import NDArray

from .curve_list import Curve, curves_of
from .rank_table import RankTable
from .run_record import RunRecord

__all__ = ["CurveChanges", "CurveCursor", "RankChanges", "RankCursor"]

# A curve on a screen has at most a few thousand pixels.
_MOST_POINTS = 2000
_MOST_COLUMNS = 2000

Points = list[tuple[float, float]]


@dataclasses.dataclass
class CurveChanges:
    """New points of the curves of a plot.

    Attributes:
        reload: whether all curves are replaced, and not continued.
        curves: curves of the plot, if they are replaced or there are new ones.
        points: new pairs of step and value by tag.
    """

    reload: bool
    curves: list[Curve] | None
    points: dict[str, Points]

    def __bool__(self) -> bool:
        return self.reload or self.curves is not None or bool(self.points)


class CurveCursor:
    """Points of a plot that a view has.

    Args:
        plot: name of the plot.
    """

    def __init__(self, plot: str) -> None:
        self.plot = plot
        self._sent: dict[str, int] = {}
        self._added = 0
        self._source: tuple[RunRecord | None, int] = (None, -1)

    def changes(self, record: RunRecord) -> CurveChanges:
        """Return what has changed since the last call.

        Long curves are thinned out: of neighboring points, the lowest and highest
        value are kept.
        """
        source = record, record.rewinds
        reload = source != self._source or self._added > _MOST_POINTS
        self._source = source
        curves = curves_of(record)[self.plot]
        known = None if reload else [*self._sent]
        if reload:
            self._sent, self._added = {}, 0
        found: dict[str, Points] = {}
        for curve in curves:
            series, start = record.series[curve.tag], self._sent.get(curve.tag, 0)
            steps, values = series.steps[start:], series.values[start:]
            if len(steps) > _MOST_POINTS:
                kept = _extremes(values, _MOST_POINTS // 2)
                steps, values = steps[kept], values[kept]
            self._sent[curve.tag] = len(series)
            if len(steps):
                found[curve.tag] = _rounded(steps, values)
                self._added += 0 if reload else len(steps)
        listed = curves if reload or known != [*self._sent] else None
        return CurveChanges(reload, listed, found)


@dataclasses.dataclass
class RankChanges:
    """New columns of the heat map.

    Attributes:
        reload: whether the heat map is replaced, and not continued.
        columns: values from 0 to 255, shape (new columns, blocks).
        steps: steps of the new columns.
    """

    reload: bool
    columns: NDArray[np.uint8]
    steps: list[int]

    def __bool__(self) -> bool:
        return self.reload or bool(self.steps)


class RankCursor:
    """Columns of the heat map that a view has."""

    def __init__(self) -> None:
        self.shown: list[int] = []
        """Measurement of each column of the view."""

        self._stride = 1
        self._source: tuple[RankTable | None, list[str], int] = (None, [], -1)
        self._last = -1

    def changes(self, record: RunRecord) -> RankChanges:
        """Return what has changed since the last call."""
        table = record.ranks
        source = table, table.blocks, record.rewinds
        same = all(a is b for a, b in zip(source[:2], self._source[:2], strict=True))
        reload = not same or source[2] != self._source[2]
        reload = reload or self._is_cut(table)
        while len(table.steps) / self._stride > _MOST_COLUMNS:
            self._stride, reload = 2 * self._stride, True
        self._source = source
        if reload:
            self.shown = []
        start = self.shown[-1] + self._stride if self.shown else 0
        new = list(range(start, len(table.steps), self._stride))
        self.shown += new
        self._last = table.steps[self.shown[-1]] if self.shown else -1
        return RankChanges(reload, table.shares[new], [table.steps[at] for at in new])

    def _is_cut(self, table: RankTable) -> bool:
        """Return whether measurements of the view were removed or replaced."""
        if not self.shown:
            return False
        last = self.shown[-1]
        return last >= len(table.steps) or table.steps[last] != self._last


def _extremes(values: NDArray[np.float64], buckets: int) -> NDArray[np.int64]:
    """Return the places of the lowest and highest value of equal parts, in order."""
    edges = np.linspace(0, len(values), buckets + 1).astype(np.int64)
    low = np.where(np.isnan(values), np.inf, values)
    high = np.where(np.isnan(values), -np.inf, values)
    places = {
        start + int(found)
        for start, end in itertools.pairwise(edges)
        for found in (np.argmin(low[start:end]), np.argmax(high[start:end]))
    }
    # The last value is the end of the curve.
    return np.array(sorted({*places, len(values) - 1}), dtype=np.int64)


def _rounded(steps: NDArray[np.float64], values: NDArray[np.float64]) -> Points:
    """Return pairs with the digits that a plot can show."""
    return [
        (float(step), float(f"{value:.5g}"))
        for step, value in zip(steps, values, strict=True)
    ]
