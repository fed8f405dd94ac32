"""Line charts in SVG for the results page."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Sequence

from .results import Curve

__all__ = ["Chart", "Frame"]

WIDTH, HEIGHT = 240, 110
_LEFT, _RIGHT, _TOP, _BOTTOM = 34, 6, 8, 16
# More points cannot be distinguished at this width.
_MOST_POINTS = 120
# More markers would hide the line.
_MOST_MARKS = 12


@dataclasses.dataclass(frozen=True)
class Frame:
    """Axis ranges, which are the same for all charts of a quantity.

    Args:
        title: name of the quantity.
        steps: last step on the horizontal axis.
        low: value at the bottom of the vertical axis.
        high: value at the top of the vertical axis.
    """

    title: str
    steps: int
    low: float
    high: float

    @classmethod
    def around(
        cls, title: str, curves: Iterable[Curve], *, floor: float | None = None
    ) -> Frame | None:
        """Compute the range of several curves. None if they have no values.

        Args:
            title: name of the quantity.
            curves: curves with this range.
            floor: value that the range must include.
        """
        points = [point for curve in curves for point in curve]
        if not points:
            return None
        values = [value for _, value in points]
        low = min(values) if floor is None else min(floor, *values)
        high = max(values)
        if high == low:
            high, low = high + abs(high) / 10 + 1e-9, low - abs(low) / 10
        return cls(title, max(1, max(step for step, _ in points)), low, high)

    def path(self, curve: Curve) -> str:
        """Return the points of a polyline."""
        return " ".join(
            f"{self.x(step):.1f},{self.y(value):.1f}" for step, value in _thin(curve)
        )

    def x(self, step: float) -> float:
        """Return the x coordinate of a step."""
        return _LEFT + (WIDTH - _LEFT - _RIGHT) * step / self.steps

    def y(self, value: float) -> float:
        """Return the y coordinate of a value; y = 0 is at the top."""
        share = (value - self.low) / (self.high - self.low)
        return HEIGHT - _BOTTOM - (HEIGHT - _TOP - _BOTTOM) * share

    @property
    def ticks(self) -> list[tuple[float, str]]:
        """Return the y coordinates and labels of the ticks."""
        middle = (self.low + self.high) / 2
        return [(self.y(v), f"{v:.3g}") for v in (self.low, middle, self.high)]


@dataclasses.dataclass(frozen=True)
class Chart:
    """Chart with the curve of a job."""

    frame: Frame
    curve: Curve
    ceiling: float | None = None
    """Upper bound, drawn as a dashed line."""

    @property
    def points(self) -> str:
        """Points of the SVG polyline."""
        return self.frame.path(self.curve)

    @property
    def ceiling_y(self) -> float | None:
        """Vertical position of the upper bound."""
        return None if self.ceiling is None else self.frame.y(self.ceiling)

    @property
    def last(self) -> str:
        """Last value as text."""
        return f"{self.curve[-1][1]:.4g}" if self.curve else "not measured"

    @property
    def marks(self) -> list[tuple[float, float, str]]:
        """Markers with labels for each measurement. Empty for dense curves."""
        if len(self.curve) > _MOST_MARKS:
            return []
        return [
            (self.frame.x(s), self.frame.y(v), f"step {s}: {v:.4g}")
            for s, v in self.curve
            if self.frame.low <= v <= self.frame.high
        ]


def _thin(curve: Sequence[tuple[int, float]]) -> list[tuple[int, float]]:
    """Reduce the number of points of a curve. The last point is kept."""
    every = -(-len(curve) // _MOST_POINTS) or 1
    kept = list(curve[::every])
    return kept if not curve or kept[-1] == curve[-1] else [*kept, curve[-1]]
