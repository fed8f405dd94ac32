"""Progress bar on a terminal; silent without one."""

from __future__ import annotations

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

__all__ = ["ProgressBar", "say"]


class ProgressBar:
    """A progress bar followed by a line of values.

    Args:
        label: name of the task.
        total: number of calls of ``advance``.
        done: number of steps already done, after a resume.
    """

    def __init__(self, label: str, total: int, done: int = 0) -> None:
        console = Console(stderr=True)
        self._progress = Progress(
            TextColumn("{task.description}"),
            BarColumn(bar_width=None),
            MofNCompleteColumn(),
            TimeRemainingColumn(),
            TextColumn("{task.fields[figures]}"),
            console=console,
            disable=not console.is_terminal,
        )
        self._task: TaskID = self._progress.add_task(
            label, total=total, completed=done, figures=""
        )

    def __enter__(self) -> ProgressBar:
        self._progress.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._progress.stop()

    def advance(self) -> None:
        """Advance by one step."""
        self._progress.advance(self._task)

    def show(self, **figures: float | None) -> None:
        """Show named values; None is omitted."""
        text = "  ".join(
            f"{name.replace('_', ' ')} {value:.4g}"
            for name, value in figures.items()
            if value is not None
        )
        self._progress.update(self._task, figures=text)


def say(message: str) -> None:
    """Print a message above the bar."""
    Console(stderr=True).print(message, markup=False, highlight=False, soft_wrap=True)
