"""The queue: a folder with the table of jobs, their settings and their logs.

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
from .store import Store, to_job
from .verdict import verdict

__all__ = ["Queue", "default_folder"]

# From being claimed to holding its lock a job takes less than this.
_START_SECONDS = 20.0


def default_folder() -> Path:
    """The queue that command line and GUI share: ``STIEFEL_LORA_QUEUE``, or at home."""
    chosen = os.environ.get("STIEFEL_LORA_QUEUE")
    return Path(chosen) if chosen else Path.home() / ".stiefel_lora" / "queue"


class Queue:
    """Jobs in a folder, as seen and changed by any number of processes.

    Args:
        folder: made when missing; a local disk.

    Raises:
        OutputError: it can not be written.
        QueueError: a newer version wrote it.
    """

    def __init__(self, folder: str | Path | None = None) -> None:
        self.folder = Path(folder or default_folder()).expanduser().absolute()
        self.store = Store(self.folder / "queue.sqlite3")

    # Reading -------------------------------------------------------------------------

    @property
    def runner_lock_path(self) -> Path:
        """Held by the one process that starts jobs."""
        return self.folder / "runner.lock"

    @property
    def journal_path(self) -> Path:
        """What happened, a line each."""
        return self.folder / "journal.txt"

    def log_path(self, job: Job) -> Path:
        """Output of all attempts of a job."""
        return self.folder / "logs" / f"{job.id}-{job.name}.log"

    def config_path(self, job: Job) -> Path:
        """The settings as ``train`` reads them."""
        return self.folder / "configs" / f"{job.id}.json"

    def jobs(self, *states: JobState) -> list[Job]:
        """All jobs, or those in some states, in the order of their numbers."""
        found = self.store.select()
        return [job for job in found if not states or job.state in states]

    def unfinished(self) -> list[Job]:
        """Jobs that run or wait for their turn."""
        return self.jobs(JobState.RUNNING, JobState.WAITING)

    def job(self, number: int) -> Job:
        """Read one job.

        Raises:
            QueueError: there is none with this number.
        """
        found = self.store.select("id = ?", number)
        if not found:
            known = ", ".join(str(job.id) for job in self.store.select()) or "none"
            raise QueueError(
                f"There is no job {number} in {self.folder}; there are: {known}."
            )
        return found[0]

    def note(self, sentence: str) -> None:
        """Append a line to the journal; a full disk costs the line, no more."""
        now = datetime.datetime.now().strftime("%Y-%m-%d %H:%M:%S")
        with (
            contextlib.suppress(OSError),
            self.journal_path.open("a", encoding="utf-8") as file,
        ):
            file.write(f"{now}  {sentence}\n")

    # The life of an attempt ----------------------------------------------------------

    def claim(self, choose: Callable[[Iterable[Job]], str | None]) -> Job | None:
        """Mark the first waiting job as running, for this caller alone.

        Args:
            choose: gets the running jobs and names a free device; None: none is free.
        """
        with self.store.change() as db:
            running = db.execute("SELECT * FROM job WHERE state = 'running'")
            device = choose([to_job(row) for row in running])
            row = db.execute(
                "SELECT id FROM job WHERE state = 'waiting' ORDER BY id"
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
        """Note the process of an attempt; False where the attempt is not wanted now."""
        with self.store.change() as db:
            done = db.execute(
                "UPDATE job SET pid = ?, pid_started = ? "
                "WHERE id = ? AND attempt = ? AND state = 'running'",
                (pid, pid_started, job.id, job.attempt),
            )
            return done.rowcount == 1

    def settle(self, job: Job, code: int | None) -> Job | None:
        """Enter what became of an attempt; None where another process has done so."""
        ends = time.time()
        with self.store.change() as db:
            row = db.execute(
                "SELECT * FROM job WHERE id = ? AND attempt = ? AND state = 'running'",
                (job.id, job.attempt),
            ).fetchone()
            if row is None:
                return None
            now = to_job(row)
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
        """Settle running jobs whose process is gone, whoever started it.

        Args:
            except_ids: jobs that the caller watches itself.
        """
        watched, now = set(except_ids), time.time()
        settled = []
        for job in self.jobs(JobState.RUNNING):
            young = job.pid is None and now - (job.started or 0) < _START_SECONDS
            if job.id in watched or young or is_held(run_lock_path(job.run_dir)):
                continue
            found = self.settle(job, None)
            settled += [found] if found else []
        return settled
