"""Default intervals between measurements; no torch."""

from __future__ import annotations

__all__ = ["rank_interval"]


def rank_interval(steps: int) -> int:
    """Steps between two rank measurements: 40 in a run, but not more than every 5th."""
    return max(5, steps // 40)
