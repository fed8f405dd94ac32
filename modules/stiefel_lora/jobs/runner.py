"""Runner: process that starts and monitors the jobs of a queue.

Jobs are separate processes, which continue if the runner exits. A later runner detects
them by their locks. Only the process that holds the runner lock of a queue starts jobs.
"""

from __future__ import annotations

import time

from .._locks import Lock
from .engine import Attempt, Engine
from .job import Job, JobState
from .orders import remind
from .queue import Queue

__all__ = ["Runner"]

# Seconds between checks of jobs started by another runner, and of commands.
_LOOK_SECONDS = 1.0
_REMIND_SECONDS = 5.0


class Runner:
    """Start the waiting jobs of a queue in free places. Call ``tick`` repeatedly.

    Args:
        queue: job queue.
        engine: where the jobs run.
    """

    def __init__(self, queue: Queue, engine: Engine) -> None:
        self.queue = queue
        self.engine = engine
        self.stopping = False
        """Whether no more jobs are started."""

        self._lock = Lock(queue.runner_lock_path)
        self._children: dict[int, tuple[Job, Attempt]] = {}
        self._looked = self._reminded = -_REMIND_SECONDS
        self.leads = False
        """Whether this process holds the runner lock."""

    def lead(self, seconds: float = 0.0) -> bool:
        """Acquire the runner lock. Return False if another process holds it."""
        self.leads = self.leads or self._lock.claim(seconds)
        return self.leads

    def leave(self) -> None:
        """Release the runner lock. Running jobs continue."""
        if self.leads:
            self._lock.release()
        self.leads = False

    def tick(self) -> bool:
        """Record ended jobs and start new ones. Return False if all jobs have ended."""
        # Own children first, with their exit codes. Without one, a job counts as
        # crashed.
        self._reap()
        now = time.monotonic()
        if now - self._looked >= _LOOK_SECONDS:
            self.queue.reap_dead_jobs(self._children)
            self._looked = now
        self._repeat_orders(now)
        while not self.stopping and self._start_one():
            pass
        return any(
            job.state is JobState.RUNNING or not self.stopping
            for job in self.queue.unfinished()
        )

    def stop(self) -> None:
        """Stop starting jobs. The next call of ``tick`` stops running jobs."""
        self.stopping = True
        self._reminded = -_REMIND_SECONDS

    def _reap(self) -> None:
        for number, (job, child) in list(self._children.items()):
            code = child.poll()
            if code is not None:
                del self._children[number]
                # The job records its own result, unless it was killed.
                self.queue.settle(job, code)

    def _start_one(self) -> bool:
        job = self.queue.claim(self.engine.free)
        if job is None:
            return False
        where = self.engine.place(job)
        self.queue.note(f"{job.name}: started{where}, attempt {job.attempt}.")
        try:
            child = self.engine.start(self.queue, job)
        except BaseException:
            self.queue.settle(job, 130)
            raise
        self._children[job.id] = (job, child)
        return True

    def _repeat_orders(self, now: float) -> None:
        """Repeat commands to jobs that were not ready when a command was sent."""
        if now - self._reminded < _REMIND_SECONDS:
            return
        self._reminded = now
        for job in self.queue.jobs(JobState.RUNNING):
            if job.wish or self.stopping:
                remind(job)
