"""Starting and stopping of trainings as jobs of the queue.

The queue is the same as that of the command line. Trainings run in separate processes
and continue if the GUI is closed or crashes.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from ...config import TrainConfig, check_complete, check_paths
from ...config.packages import check_packages
from ...data import scan_all
from ...data.epoch_length import without_epochs
from ...jobs import (
    Direction,
    Job,
    JobState,
    Plan,
    Queue,
    add_jobs,
    cancel_jobs,
    clear_jobs,
    is_running,
    move_job,
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
    """Queue of trainings for the GUI.

    Raises:
        OutputError: If the queue folder is not writable.
    """

    def __init__(self) -> None:
        self.queue = Queue()

    def jobs(self) -> list[Job]:
        """Return all jobs in queue order."""
        return self.queue.jobs()

    def job_of(self, run_dir: Path) -> Job | None:
        """Return the job of a run folder."""
        found = [job for job in self.queue.jobs() if job.run_dir == run_dir]
        return found[0] if found else None

    def running(self) -> list[Job]:
        """Return the running jobs."""
        return self.queue.jobs(JobState.RUNNING)

    def settle(self) -> None:
        """Record the results of ended jobs, and start a runner for waiting jobs."""
        if is_running(self.queue):
            return
        self.queue.reap_dead_jobs()
        if self.queue.jobs(JobState.WAITING):
            self._run()

    def add(self, config: TrainConfig, source: str) -> Job:
        """Add a training to the queue and start a runner.

        A number is appended to the run name if it is already in use.

        Raises:
            ConfigError: If the model or the images are not set, a path does not
                exist, or a package is not installed.
            DataError: If a folder contains no images.
            OutputError: If the disk is full.
        """
        check_complete(config)
        check_paths(config)
        check_packages(config)
        train, _ = scan_all(config)
        config, _ = without_epochs(config, train)
        job = add_jobs(self.queue, [Plan(config, source, {})], rename=True)[0]
        self._run()
        return job

    def stop(self, job: Job) -> None:
        """Save a checkpoint and stop a job. It can be resumed."""
        pause_jobs(self.queue, [job.id])

    def can_resume(self, job: Job) -> bool:
        """Return whether a job was stopped or has failed."""
        return job.state in _RESUMABLE

    def resume(self, job: Job) -> None:
        """Resume a stopped or failed job from its last checkpoint."""
        wake: Callable[..., object] = (
            release_jobs if job.state is JobState.PAUSED else retry_jobs
        )
        wake(self.queue, [job.id])
        self._run()

    def cancel(self, job: Job) -> None:
        """Cancel a job. A running job saves a checkpoint and stops."""
        cancel_jobs(self.queue, [job.id])

    def move(self, job: Job, where: Direction) -> None:
        """Move a waiting job in the queue."""
        move_job(self.queue, job.id, where)

    def clear(self) -> None:
        """Remove finished jobs from the list. Their files are kept."""
        clear_jobs(self.queue)

    def send(self, run_dir: Path, command: Command) -> None:
        """Send a command to a running training."""
        send_command(run_dir, command)

    def log_of(self, job: Job) -> Path:
        """Return the log file of a job."""
        return self.queue.log_path(job)

    def _run(self) -> None:
        start_runner(self.queue, parse_slots(None, None))
