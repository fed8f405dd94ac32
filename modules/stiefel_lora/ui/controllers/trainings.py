"""Start and stop trainings: jobs of the queue that the command line has too.

They are processes of their own, started by a runner that is one too: the window may
close or crash, and finds them again.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from ...config import TrainConfig, check_complete, check_paths
from ...data import scan_all
from ...jobs import (
    Job,
    JobState,
    Plan,
    Queue,
    add_jobs,
    cancel_jobs,
    clear_jobs,
    is_running,
    parse_slots,
    pause_jobs,
    release_jobs,
    retry_jobs,
    start_runner,
)
from ...runs.commands import Command, send_command

__all__ = ["Trainings"]

_RESUMABLE = (JobState.PAUSED, JobState.FAILED, JobState.CANCELLED)


class Trainings:
    """The queue, seen from the window.

    Raises:
        OutputError: its folder can not be written.
    """

    def __init__(self) -> None:
        self.queue = Queue()

    def jobs(self) -> list[Job]:
        """All jobs in the order of the queue."""
        return self.queue.jobs()

    def job_of(self, run_dir: Path) -> Job | None:
        """The job that writes a run's folder."""
        found = [job for job in self.queue.jobs() if job.run_dir == run_dir]
        return found[0] if found else None

    def running(self) -> list[Job]:
        """Jobs that run now."""
        return self.queue.jobs(JobState.RUNNING)

    def settle(self) -> None:
        """Enter what became of jobs that died, and see that waiting ones get a turn."""
        if is_running(self.queue):
            return
        self.queue.reap_dead_jobs()
        if self.queue.jobs(JobState.WAITING):
            self._run()

    def add(self, config: TrainConfig, source: str) -> Job:
        """Put a training at the end of the queue and see that it is worked on.

        A run name that is taken gets a number behind it.

        Raises:
            ConfigError: model or pictures are not set, or a path is missing.
            DataError: a folder has no pictures.
            OutputError: the disk is full.
        """
        check_complete(config)
        check_paths(config)
        scan_all(config)
        job = add_jobs(self.queue, [Plan(config, source, {})], rename=True)[0]
        self._run()
        return job

    def stop(self, job: Job) -> None:
        """Let a job save and end; it can be resumed."""
        pause_jobs(self.queue, [job.id])

    def can_resume(self, job: Job) -> bool:
        """Whether a job was stopped or failed."""
        return job.state in _RESUMABLE

    def resume(self, job: Job) -> None:
        """Let a stopped or failed job go on from its last checkpoint."""
        wake: Callable[..., object] = (
            release_jobs if job.state is JobState.PAUSED else retry_jobs
        )
        wake(self.queue, [job.id])
        self._run()

    def cancel(self, job: Job) -> None:
        """Take a job out of the queue; a running one saves and ends."""
        cancel_jobs(self.queue, [job.id])

    def clear(self) -> None:
        """Forget jobs that are over; their files stay."""
        clear_jobs(self.queue)

    def send(self, run_dir: Path, command: Command) -> None:
        """Drop an order into the folder of a running training."""
        send_command(run_dir, command)

    def log_of(self, job: Job) -> Path:
        """Where the job's output goes."""
        return self.queue.log_path(job)

    def _run(self) -> None:
        start_runner(self.queue, parse_slots(None, None))
