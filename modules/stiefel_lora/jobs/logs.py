"""Read the log of a job, and follow it while it grows."""

from __future__ import annotations

import time
from collections.abc import Iterator

from .job import Job, JobState
from .queue import Queue
from .tail import Tail

__all__ = ["follow_log", "read_log"]

_LOOK_SECONDS = 0.5


def read_log(queue: Queue, job: Job, lines: int = 0) -> list[str]:
    """The last lines of a job's output, of all its attempts; 0: all of it."""
    found = Tail(queue.log_path(job)).lines()
    return found[-lines:] if lines else found


def follow_log(queue: Queue, job: Job) -> Iterator[str]:
    """Yield the lines of a job's output until it is neither running nor waiting."""
    tail, goes_on = Tail(queue.log_path(job)), True
    while goes_on:
        # Asked before reading, so that the last lines are not missed.
        state = queue.job(job.id).state
        goes_on = state in (JobState.RUNNING, JobState.WAITING)
        yield from tail.lines()
        if goes_on:
            time.sleep(_LOOK_SECONDS)
