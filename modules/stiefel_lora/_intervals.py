"""Default intervals between measurements."""

from __future__ import annotations

__all__ = ["rank_interval"]


def rank_interval(steps: int) -> int:
    """Return the steps between rank measurements: 1/40 of the run, at least 5."""
    return max(5, steps // 40)
