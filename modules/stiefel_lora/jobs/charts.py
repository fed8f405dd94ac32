"""Small line charts as SVG, drawn with the colours of the page that holds them."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Sequence

from .results import Curve

__all__ = ["Chart", "Frame"]

WIDTH, HEIGHT = 240, 110
_LEFT, _RIGHT, _TOP, _BOTTOM = 34, 6, 8, 16
# More points than this can not be told apart in that width.
_MOST_POINTS = 120
# More marks than this hide the line.
_MOST_MARKS = 12


@dataclasses.dataclass(frozen=True)
class Frame:
    """The range that all charts of one figure share, so that they can be compared.

    Args:
        title: what is drawn.
        steps: the last step on the horizontal axis.
        low: value at the bottom.
        high: value at the top.
    """

    title: str
    steps: int
    low: float
    high: float

    @classmethod
    def around(
        cls, title: str, curves: Iterable[Curve], *, floor: float | None = None
    ) -> Frame | None:
        """The range of some curves; None where there is nothing to draw.

        Args:
            title: what is drawn.
            curves: everything that will be drawn in this range.
            floor: a value that must be in it.
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
        """Points of a polyline."""
        return " ".join(
            f"{self.x(step):.1f},{self.y(value):.1f}" for step, value in _thin(curve)
        )

    def x(self, step: float) -> float:
        """Place of a step."""
        return _LEFT + (WIDTH - _LEFT - _RIGHT) * step / self.steps

    def y(self, value: float) -> float:
        """Place of a value; the screen counts from above."""
        share = (value - self.low) / (self.high - self.low)
        return HEIGHT - _BOTTOM - (HEIGHT - _TOP - _BOTTOM) * share

    @property
    def ticks(self) -> list[tuple[float, str]]:
        """Place and text of the values on the vertical axis."""
        middle = (self.low + self.high) / 2
        return [(self.y(v), f"{v:.3g}") for v in (self.low, middle, self.high)]


@dataclasses.dataclass(frozen=True)
class Chart:
    """One job's curve in the frame of all."""

    frame: Frame
    curve: Curve
    ceiling: float | None = None
    """A value that can not be passed, drawn as a broken line."""

    @property
    def points(self) -> str:
        """Points of the polyline."""
        return self.frame.path(self.curve)

    @property
    def ceiling_y(self) -> float | None:
        """Place of the ceiling."""
        return None if self.ceiling is None else self.frame.y(self.ceiling)

    @property
    def last(self) -> str:
        """The value at the end, as text."""
        return f"{self.curve[-1][1]:.4g}" if self.curve else "not measured"

    @property
    def marks(self) -> list[tuple[float, float, str]]:
        """Places of single measurements, with their text; none on dense curves."""
        if len(self.curve) > _MOST_MARKS:
            return []
        return [
            (self.frame.x(s), self.frame.y(v), f"step {s}: {v:.4g}")
            for s, v in self.curve
            if self.frame.low <= v <= self.frame.high
        ]


def _thin(curve: Sequence[tuple[int, float]]) -> list[tuple[int, float]]:
    """Every n-th point, the last one always."""
    every = -(-len(curve) // _MOST_POINTS) or 1
    kept = list(curve[::every])
    return kept if not curve or kept[-1] == curve[-1] else [*kept, curve[-1]]
