"""Remaining time of a run, estimated from its recent steps."""

from __future__ import annotations

__all__ = ["Pace", "duration"]

# Number of recent steps of the estimate.
_RECENT_STEPS = 50


class Pace:
    """Times of the recent steps of a run."""

    def __init__(self) -> None:
        self._times: list[tuple[int, float]] = []

    def restart(self) -> None:
        """Forget the steps of an earlier process."""
        self._times = []

    def take(self, step: int, time: float) -> None:
        """Add a step.

        Args:
            step: number of the step.
            time: time of its end in seconds.
        """
        self._times = [*self._times[-_RECENT_STEPS:], (step, time)]

    def seconds_left(self, steps: int) -> float | None:
        """Estimate the remaining time in seconds. None if it is not known yet.

        Args:
            steps: number of steps of the whole run.
        """
        if len(self._times) < 2 or not steps:
            return None
        (first, began), (last, now) = self._times[0], self._times[-1]
        if last <= first:
            return None
        return (now - began) / (last - first) * max(0, steps - last)


def duration(seconds: float) -> str:
    """Format a time in hours, minutes and seconds.

    >>> duration(65), duration(3700)
    ('1:05', '1:01:40')
    """
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02d}:{rest:02d}" if hours else f"{minutes}:{rest:02d}"
