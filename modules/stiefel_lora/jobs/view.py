"""Progress display of a batch, with a bar per running job and a line per event."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Sequence

from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    TaskID,
    TextColumn,
    TimeRemainingColumn,
)

from ..metrics.tags import measured_at
from .job import OVER, Job, JobState
from .queue import Queue
from .tail import Tail, Watch

__all__ = ["View"]

# Seconds between progress lines without a terminal.
_QUIET_SECONDS = 60.0


class View:
    """Show the progress of a queue in a terminal, or as lines of text otherwise.

    Args:
        queue: queue to show. New lines of its event log are printed.
    """

    def __init__(self, queue: Queue) -> None:
        self._queue = queue
        self._journal = Tail(queue.journal_path, at_end=True)
        self._console = Console(stderr=True)
        self._bars = Progress(
            TextColumn("{task.description}"),
            BarColumn(),
            MofNCompleteColumn(),
            TimeRemainingColumn(),
            TextColumn("{task.fields[figures]}"),
            console=self._console,
            disable=not self._console.is_terminal,
        )
        self._watches: dict[tuple[int, int], tuple[Watch, TaskID]] = {}
        self._spoke = time.monotonic()

    def __enter__(self) -> View:
        self._bars.start()
        self._total = self._bars.add_task("all jobs", total=None, figures="")
        return self

    def __exit__(self, *exc: object) -> None:
        self.show()
        self._bars.stop()

    def show(self) -> None:
        """Update the display."""
        jobs = self._queue.jobs()
        for line in self._journal.lines():
            self.say(line)
        texts = [self._show_job(job) for job in jobs if job.state is JobState.RUNNING]
        self._drop([job for job in jobs if job.state is not JobState.RUNNING])
        over = sum(job.state in OVER for job in jobs)
        self._bars.update(self._total, completed=over, total=len(jobs))
        if not self._console.is_terminal and texts:
            self._speak(jobs, texts)

    def say(self, message: str) -> None:
        """Print a line above the bars."""
        self._console.print(message, markup=False, highlight=False, soft_wrap=True)

    def _show_job(self, job: Job) -> str:
        key = (job.id, job.attempt)
        if key not in self._watches:
            task = self._bars.add_task(job.name, total=job.steps, figures="starting")
            self._watches[key] = (Watch(job), task)
        watch, task = self._watches[key]
        found = watch.progress()
        figures = "  ".join(
            f"{measured_at(label, found.step_of(name), found.step)} {value:.4g}"
            for label, name in (
                ("loss", "loss"),
                ("validation loss", "validation_loss"),
                ("rank", "effective_rank"),
            )
            if (value := getattr(found, name)) is not None
        )
        self._bars.update(task, completed=found.step, figures=figures or "starting")
        return f"{job.name} {found.step}/{job.steps} {figures}".rstrip()

    def _drop(self, ended: Sequence[Job]) -> None:
        for job in ended:
            watch = self._watches.pop((job.id, job.attempt), None)
            if watch:
                self._bars.remove_task(watch[1])

    def _speak(self, jobs: Sequence[Job], texts: Sequence[str]) -> None:
        if time.monotonic() - self._spoke < _QUIET_SECONDS:
            return
        self._spoke = time.monotonic()
        self.say(f"{counts(jobs)}; {'; '.join(texts)}")


def counts(jobs: Sequence[Job]) -> str:
    """Return the number of jobs in each state as text.

    >>> counts([])
    'no jobs'
    """
    found = Counter(job.state for job in jobs)
    words = [f"{found[state]} {state.value}" for state in JobState if found[state]]
    return ", ".join(words) or "no jobs"
