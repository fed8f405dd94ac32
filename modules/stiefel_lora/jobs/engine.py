"""Engines: where the jobs of a queue run.

The runner decides which job is next and records how it ends. An engine has the places
for jobs and starts their processes.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Protocol

from .job import Job
from .processes import start_detached
from .queue import Queue
from .slots import THREADS, cores, environment_of, free_device

__all__ = ["Attempt", "Engine", "LocalEngine"]


class Attempt(Protocol):
    """A started job."""

    def poll(self) -> int | None:
        """Return the exit code, or None if the job is running."""


class Engine(Protocol):
    """Places for jobs."""

    def free(self, running: Iterable[Job]) -> str | None:
        """Return the device for another job, or None if all are in use."""

    def place(self, job: Job) -> str:
        """Describe where a job runs, as the end of "started"."""

    def start(self, queue: Queue, job: Job) -> Attempt:
        """Start a job that was claimed."""


class LocalEngine:
    """Processes on this machine, which continue when the runner exits.

    Args:
        slots: devices. Each of them runs one job at a time.
    """

    def __init__(self, slots: Sequence[str]) -> None:
        self.slots = list(slots)

    def free(self, running: Iterable[Job]) -> str | None:
        """Return the device for another job, or None if all are in use."""
        return free_device(self.slots, running)

    def place(self, job: Job) -> str:
        """Describe where a job runs, as the end of "started"."""
        where = f" on device {job.device}" if job.device else ""
        env = environment_of(job.device, len(self.slots))
        share = f" with {env[THREADS]} of {cores()} CPU cores" if THREADS in env else ""
        return where + share

    def start(self, queue: Queue, job: Job) -> Attempt:
        """Start a job that was claimed.

        Raises:
            OutputError: If the process cannot be started.
        """
        arguments = [str(queue.folder), str(job.id), str(job.attempt)]
        env = environment_of(job.device, len(self.slots))
        log = queue.log_path(job)
        return start_detached("stiefel_lora.jobs.worker", arguments, log, env)
