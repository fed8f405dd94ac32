"""Job queue: a folder with a database of jobs, their settings and logs.

``<folder>/{queue.sqlite3, runner.lock, journal.txt, configs/, logs/}``
"""

from __future__ import annotations

import contextlib
import datetime
import os
import time
from collections.abc import Callable, Iterable
from pathlib import Path

from .._exceptions import QueueError
from .._locks import is_held
from ..runs.run_lock import run_lock_path
from .job import Job, JobState
from .store import PLACE, Store, to_job
from .verdict import verdict

__all__ = ["Queue", "default_folder"]

# Maximum time from claiming a job to holding its lock.
_START_SECONDS = 20.0


def default_folder() -> Path:
    """Return ``STIEFEL_LORA_QUEUE``, or the default queue folder if it is not set."""
    chosen = os.environ.get("STIEFEL_LORA_QUEUE")
    return Path(chosen) if chosen else Path.home() / ".stiefel_lora" / "queue"


class Queue:
    """Job queue in a folder. Several processes can use it at the same time.

    Args:
        folder: queue folder on a local disk. It is created if missing.

    Raises:
        OutputError: If the folder is not writable.
        QueueError: If the queue was written by a newer version.
    """

    def __init__(self, folder: str | Path | None = None) -> None:
        self.folder = Path(folder or default_folder()).expanduser().absolute()
        self.store = Store(self.folder / "queue.sqlite3")

    # Reading -------------------------------------------------------------------------

    @property
    def runner_lock_path(self) -> Path:
        """Path of the lock file of the runner."""
        return self.folder / "runner.lock"

    @property
    def journal_path(self) -> Path:
        """Path of the event log, with a line per event."""
        return self.folder / "journal.txt"

    def log_path(self, job: Job) -> Path:
        """Return the log file of a job. It contains the output of all attempts."""
        return self.folder / "logs" / f"{job.id}-{job.name}.log"

    def config_path(self, job: Job) -> Path:
        """Return the config file of a job."""
        return self.folder / "configs" / f"{job.id}.json"

    def jobs(self, *states: JobState) -> list[Job]:
        """Return all jobs, or the jobs in the given states, in queue order."""
        found = self.store.select()
        return [job for job in found if not states or job.state in states]

    def unfinished(self) -> list[Job]:
        """Return running and waiting jobs."""
        return self.jobs(JobState.RUNNING, JobState.WAITING)

    def job(self, number: int) -> Job:
        """Read one job.

        Raises:
            QueueError: If there is no job with this number.
        """
        found = self.store.select("id = ?", number)
        if not found:
            known = ", ".join(str(job.id) for job in self.store.select()) or "none"
            raise QueueError(
                f"There is no job {number} in {self.folder}. Available jobs: {known}."
            )
        return found[0]

    def note(self, message: str) -> None:
        """Append a line to the event log. Errors such as a full disk are ignored."""
        now = datetime.datetime.now().strftime("%Y-%m-%d %H:%M:%S")
        with (
            contextlib.suppress(OSError),
            self.journal_path.open("a", encoding="utf-8") as file,
        ):
            file.write(f"{now}  {message}\n")

    # The life of an attempt ----------------------------------------------------------

    def claim(self, choose: Callable[[Iterable[Job]], str | None]) -> Job | None:
        """Atomically mark the first waiting job as running.

        Args:
            choose: function of the running jobs that returns a free device, or None.
        """
        # Reading and writing in one transaction: two runners never claim the same job.
        with self.store.change() as db:
            running = db.execute("SELECT * FROM job WHERE state = 'running'")
            device = choose([to_job(row) for row in running])
            row = db.execute(
                f"SELECT id FROM job WHERE state = 'waiting' ORDER BY {PLACE}"
            ).fetchone()
            if device is None or row is None:
                return None
            db.execute(
                "UPDATE job SET state = 'running', attempt = attempt + 1, device = ?, "
                "started = ?, pid = NULL, pid_started = NULL, exit_code = NULL, "
                "message = '', wish = NULL WHERE id = ?",
                (device, time.time(), row["id"]),
            )
            found = db.execute("SELECT * FROM job WHERE id = ?", (row["id"],))
            return to_job(found.fetchone())

    def enter(self, job: Job, pid: int, pid_started: float) -> bool:
        """Record the process of an attempt. Return False if it must not run."""
        with self.store.change() as db:
            done = db.execute(
                "UPDATE job SET pid = ?, pid_started = ? "
                "WHERE id = ? AND attempt = ? AND state = 'running'",
                (pid, pid_started, job.id, job.attempt),
            )
            return done.rowcount == 1

    def settle(self, job: Job, code: int | None) -> Job | None:
        """Record the result of an attempt. Return None if it is already recorded."""
        ends = time.time()
        with self.store.change() as db:
            row = db.execute(
                "SELECT * FROM job WHERE id = ? AND attempt = ? AND state = 'running'",
                (job.id, job.attempt),
            ).fetchone()
            if row is None:
                return None
            now = to_job(row)
            # Within the transaction: a command that comes now either is part of this
            # verdict, or finds that the attempt is over.
            found = verdict(now, code, self.log_path(now))
            db.execute(
                "UPDATE job SET state = ?, message = ?, deaths = ?, saved_step = ?, "
                "exit_code = ?, seconds = seconds + ?, wish = NULL, pid = NULL, "
                "pid_started = NULL WHERE id = ?",
                (
                    found.state.value,
                    found.message,
                    found.deaths,
                    found.saved_step,
                    code,
                    max(0.0, ends - (now.started or ends)),
                    now.id,
                ),
            )
        self.note(f"{now.name}: {found.state.value}. {found.message}".rstrip())
        return self.job(job.id)

    def reap_dead_jobs(self, except_ids: Iterable[int] = ()) -> list[Job]:
        """Update running jobs whose process no longer exists.

        Args:
            except_ids: IDs of jobs that are not checked.
        """
        watched, now = set(except_ids), time.time()
        settled = []
        for job in self.jobs(JobState.RUNNING):
            # Between its claim and its lock, there is no sign of life of a job yet.
            young = job.pid is None and now - (job.started or 0) < _START_SECONDS
            if job.id in watched or young or is_held(run_lock_path(job.run_dir)):
                continue
            found = self.settle(job, None)
            settled += [found] if found else []
        return settled
