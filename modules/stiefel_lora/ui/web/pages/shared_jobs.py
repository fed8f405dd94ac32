"""Jobs of the queue, read once for all browsers."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING
from weakref import WeakKeyDictionary

from ...._exceptions import StiefelLoraError
from ....jobs import Job, JobState

if TYPE_CHECKING:
    from ..context import WebContext

__all__ = ["jobs_of", "running_job"]

_KEPT_SECONDS = 0.4
_read: WeakKeyDictionary[WebContext, tuple[float, list[Job]]] = WeakKeyDictionary()


def jobs_of(context: WebContext, *, fresh: bool = False) -> list[Job]:
    """Return all jobs in queue order, the last known ones if it cannot be read.

    Args:
        context: queue of the server.
        fresh: whether to read the queue again, after a change.
    """
    then, jobs = _read.get(context, (float("-inf"), []))
    if fresh or time.monotonic() - then > _KEPT_SECONDS:
        try:
            jobs, context.queue_problem = context.trainings.jobs(), ""
        except StiefelLoraError as error:
            # The status line of every page shows it.
            context.queue_problem = str(error)
        _read[context] = (time.monotonic(), jobs)
    return jobs


def running_job(jobs: list[Job]) -> Job | None:
    """Return the job that is running, or None."""
    found = [job for job in jobs if job.state is JobState.RUNNING]
    return found[-1] if found else None
