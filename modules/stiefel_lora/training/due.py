"""Decision which events are due after a step."""

from __future__ import annotations

import time
from fractions import Fraction

from ..config.interval import split_interval

__all__ = ["DueEvents"]


class DueEvents:
    """Decides which events are due, by steps or by the time since the start.

    The time only determines when an event happens, never what is trained.

    Args:
        began: ``time.monotonic()`` at the start of the process's part of the run.
    """

    def __init__(self, began: float) -> None:
        self._began = began
        self._passed: dict[str, int] = {}
        # Encoding images and loading the model may take longer than an interval; the
        # first event is then due at the end of the next one, not at once.
        self._first = time.monotonic()

    def is_due(self, key: str, every: int | str, step: int) -> bool:
        """Return whether an event is due after ``step``, called once per step.

        Args:
            key: name of the event.
            every: interval in steps, or in minutes such as ``"10 minutes"``; 0: never.
            step: number of completed steps.
        """
        if isinstance(every, int):
            return bool(every) and step % every == 0
        number, unit = split_interval(every)
        assert unit == "minutes", f"{key}: epochs are converted before training"
        before = self._passed.get(key, self._intervals(number, self._first))
        # Intervals that pass during one step are one event.
        self._passed[key] = now = self._intervals(number, time.monotonic())
        return now > before

    def _intervals(self, minutes: Fraction, now: float) -> int:
        """Return the number of intervals that have passed since the start."""
        return int((now - self._began) / (60 * float(minutes)))
