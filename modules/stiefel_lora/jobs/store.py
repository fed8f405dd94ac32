"""SQLite database of jobs, which several processes can use at the same time.

It uses write-ahead logging. Every change is an atomic transaction.
"""

from __future__ import annotations

import contextlib
import json
import sqlite3
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from .._exceptions import OutputError, QueueError
from .job import Job, job_from

__all__ = ["PLACE", "Store"]

VERSION = 1
# Seconds that a writer waits for another one.
BUSY_SECONDS = 30
SCHEMA = f"""
CREATE TABLE IF NOT EXISTS job (
    id INTEGER PRIMARY KEY AUTOINCREMENT,
    run_dir TEXT NOT NULL UNIQUE,
    config TEXT NOT NULL,
    source TEXT NOT NULL,
    changes TEXT NOT NULL,
    state TEXT NOT NULL DEFAULT 'waiting',
    wish TEXT,
    device TEXT NOT NULL DEFAULT '',
    attempt INTEGER NOT NULL DEFAULT 0,
    deaths INTEGER NOT NULL DEFAULT 0,
    pid INTEGER,
    pid_started REAL,
    exit_code INTEGER,
    message TEXT NOT NULL DEFAULT '',
    added REAL NOT NULL,
    started REAL,
    seconds REAL NOT NULL DEFAULT 0,
    saved_step INTEGER NOT NULL DEFAULT 0
);
PRAGMA user_version = {VERSION};
"""
# Places of jobs that were moved. Earlier versions ignore this table, so their processes
# can still use the queue.
PLACES = """
CREATE TABLE IF NOT EXISTS job_order (id INTEGER PRIMARY KEY, place REAL NOT NULL)
"""
PLACE = "COALESCE((SELECT place FROM job_order WHERE job_order.id = job.id), job.id)"
"""Place of a row of ``job`` in the queue: its number, unless it was moved."""


class Store:
    """Database of jobs.

    Args:
        path: path of the SQLite file. It is created if missing.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        with self._storage_errors():
            path.parent.mkdir(parents=True, exist_ok=True)
            with contextlib.closing(self._connect()) as db:
                found = db.execute("PRAGMA user_version").fetchone()[0]
                if found > VERSION:
                    raise QueueError(
                        f"The queue {path} was written by a newer version of "
                        f"stiefel-lora (format {found}, but only {VERSION} is "
                        "supported). Update stiefel-lora."
                    )
                if found < VERSION:
                    # Once: the mode is stored in the file.
                    db.execute("PRAGMA journal_mode = WAL")
                    db.executescript(SCHEMA)
                db.execute(PLACES)

    @contextlib.contextmanager
    def change(self) -> Iterator[sqlite3.Connection]:
        """Open a write transaction in a ``with`` block.

        Raises:
            OutputError: If the disk is full, or the file cannot be written.
        """
        with self._storage_errors(), contextlib.closing(self._connect()) as db:
            db.execute("BEGIN IMMEDIATE")
            try:
                yield db
            except BaseException:
                db.rollback()
                raise
            db.commit()

    def select(self, where: str = "TRUE", *values: Any) -> list[Job]:
        """Read the jobs that match a condition, in the order of the queue.

        Raises:
            OutputError: If the file cannot be read.
        """
        with self._storage_errors(), contextlib.closing(self._connect()) as db:
            found = db.execute(
                f"SELECT * FROM job WHERE {where} ORDER BY {PLACE}", values
            )
            return [to_job(row) for row in found]

    def _connect(self) -> sqlite3.Connection:
        # isolation_level=None: ``change`` begins the transactions. By default, sqlite3
        # begins deferred ones. Such a transaction fails at once, without waiting for
        # the timeout, if another process writes between its first read and first write.
        db = sqlite3.connect(self.path, timeout=BUSY_SECONDS, isolation_level=None)
        db.row_factory = sqlite3.Row
        return db

    @contextlib.contextmanager
    def _storage_errors(self) -> Iterator[None]:
        try:
            yield
        except sqlite3.IntegrityError:
            raise
        except (sqlite3.Error, OSError) as error:
            # Others are of subclasses: a full disk or a lock is an OperationalError.
            if type(error) is sqlite3.DatabaseError:
                raise OutputError(
                    f"The queue {self.path} is damaged ({error}). Rename it to "
                    "start with an empty queue. Run folders and running jobs are not "
                    "affected."
                ) from error
            raise OutputError(
                f"The queue {self.path} cannot be used ({error}). It requires free "
                "space on a local disk. Running jobs are not affected."
            ) from error


def to_job(row: sqlite3.Row) -> Job:
    """Build a ``Job`` from a row of the table."""
    values: dict[str, Any] = dict(row)
    for key in ("config", "changes"):
        values[key] = json.loads(values[key])
    return job_from(values)
