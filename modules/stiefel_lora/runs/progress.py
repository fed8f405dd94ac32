"""Progress of a long task: a bar on a terminal, and lines in a log file."""

from __future__ import annotations

import contextlib
import datetime
import time
from collections.abc import Callable, Iterator, Mapping
from types import TracebackType

from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    TaskID,
    TextColumn,
    TimeRemainingColumn,
)
from rich.table import Column

__all__ = ["ProgressBar", "mute", "say"]

SECONDS_PER_LINE = 10.0
# Width of the bar.
_BAR = 10

Figures = Mapping[str, float | None]
"""Values by label. Values of None are not shown."""

_muted = False


class ProgressBar:
    """Progress bar followed by a line of values.

    If the output is not a terminal, a line is printed at the beginning, after the first
    step, every 10 seconds and at the end.

    Args:
        label: name of the task.
        total: number of steps.
        done: number of steps that were completed before resuming.
    """

    def __init__(self, label: str, total: int, done: int = 0) -> None:
        console = Console(stderr=True)
        self._lines = (
            None if console.is_terminal else _Lines(label, total, done, time.monotonic)
        )
        # Values come last, since they are what a narrow terminal cuts off.
        fixed = Column(no_wrap=True, min_width=2 * len(str(total)) + 1)
        self._left = max(0, console.width - _other_columns(label, total))
        self._progress = Progress(
            TextColumn("{task.description}", table_column=Column(no_wrap=True)),
            MofNCompleteColumn(table_column=fixed),
            TimeRemainingColumn(table_column=Column(no_wrap=True, min_width=7)),
            BarColumn(bar_width=_BAR),
            TextColumn("{task.fields[figures]}", table_column=Column(no_wrap=True)),
            console=console,
            disable=_muted or not console.is_terminal,
        )
        self._task: TaskID = self._progress.add_task(
            label, total=total, completed=done, figures=""
        )

    def __enter__(self) -> ProgressBar:
        if self._lines:
            self._lines.write()
        self._progress.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if self._lines:
            self._lines.end()
        self._progress.stop()

    def advance(self, figures: Figures | None = None) -> None:
        """Advance by one step and show its values."""
        text = "  ".join(
            f"{name} {value:.4g}"
            for name, value in (figures or {}).items()
            if value is not None
        )
        self._progress.update(self._task, advance=1, figures=_cut(text, self._left))
        if self._lines:
            self._lines.advance(text)


def _other_columns(label: str, total: int) -> int:
    """Return the width of a line without its values, with a space after each column."""
    count, left = 2 * len(str(total)) + 1, 7
    return len(label) + count + left + _BAR + 4


def _cut(text: str, width: int) -> str:
    return text if len(text) <= width else text[: max(0, width - 1)] + "…" * (width > 0)


class _Lines:
    """Progress as lines of text, for output that is not a terminal."""

    def __init__(
        self, label: str, total: int, done: int, clock: Callable[[], float]
    ) -> None:
        self._label, self._total = label, total
        self._first = self._done = done
        self._clock, self._began = clock, clock()
        self._written_at, self._written = -1.0, -1
        self._text = ""

    def advance(self, text: str) -> None:
        """Count a step, and print a line if 10 seconds have passed."""
        self._done, self._text = self._done + 1, text
        # Without values, a line after the first step adds nothing to that of the start.
        is_first = self._done == self._first + 1 and text
        if is_first or self._clock() - self._written_at >= SECONDS_PER_LINE:
            self.write()

    def end(self) -> None:
        """Print a line for the last step, unless it was already printed."""
        if self._done != self._written:
            self.write()

    def write(self) -> None:
        """Print the number of completed steps and the estimated remaining time."""
        self._written_at, self._written = self._clock(), self._done
        parts = [f"{self._label}: {self._done} of {self._total}", self._text]
        taken, left = self._done - self._first, self._total - self._done
        if taken and left:
            seconds = (self._written_at - self._began) / taken * left
            parts.append(f"{datetime.timedelta(seconds=round(seconds))} left")
        say("  ".join(part for part in parts if part))


def say(message: str) -> None:
    """Print a message above the bar."""
    if not _muted:
        console = Console(stderr=True)
        console.print(message, markup=False, highlight=False, soft_wrap=True)


@contextlib.contextmanager
def mute(muted: bool = True) -> Iterator[None]:
    """Print no messages and progress in a ``with`` block, if ``muted`` is True."""
    global _muted
    before, _muted = _muted, muted
    try:
        yield
    finally:
        _muted = before
