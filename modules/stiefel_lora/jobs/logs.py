"""Reading and following the log of a job."""

from __future__ import annotations

import time
from collections.abc import Iterator

from .job import Job, JobState
from .queue import Queue
from .tail import Tail

__all__ = ["follow_log", "read_log"]

_LOOK_SECONDS = 0.5


def read_log(queue: Queue, job: Job, lines: int = 0) -> list[str]:
    """Return the last lines of a job's log, or all lines if ``lines`` is 0."""
    found = Tail(queue.log_path(job)).lines()
    return found[-lines:] if lines else found


def follow_log(queue: Queue, job: Job) -> Iterator[str]:
    """Yield the lines of a job's log until it is neither running nor waiting."""
    tail, active = Tail(queue.log_path(job)), True
    while active:
        # Check the state before reading, so that the last lines are not missed.
        state = queue.job(job.id).state
        active = state in (JobState.RUNNING, JobState.WAITING)
        yield from tail.lines()
        if active:
            time.sleep(_LOOK_SECONDS)
