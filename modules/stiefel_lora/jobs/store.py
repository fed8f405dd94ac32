"""The table of jobs in one sqlite file that several processes read and write.

Write-ahead logging lets readers and a writer work side by side and survives a crash of
any of them; every change is one transaction that is there wholly or not at all.
"""

from __future__ import annotations

import contextlib
import json
import sqlite3
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from .._exceptions import OutputError, QueueError
from .job import Job, JobState

__all__ = ["Store"]

VERSION = 1
# How long a writer waits for another one before it gives up.
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


class Store:
    """Jobs on disk.

    Args:
        path: the sqlite file; made when missing.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        with self._sentences():
            path.parent.mkdir(parents=True, exist_ok=True)
            with contextlib.closing(self._connect()) as db:
                found = db.execute("PRAGMA user_version").fetchone()[0]
                if found > VERSION:
                    raise QueueError(
                        f"The queue {path} was written by a newer stiefel-lora "
                        f"(format {found}, this one knows {VERSION}): update it."
                    )
                if found < VERSION:
                    db.execute("PRAGMA journal_mode = WAL")
                    db.executescript(SCHEMA)

    @contextlib.contextmanager
    def change(self) -> Iterator[sqlite3.Connection]:
        """Open a transaction that no other writer comes between.

        Raises:
            OutputError: the disk is full, or the file can not be written.
        """
        with self._sentences(), contextlib.closing(self._connect()) as db:
            db.execute("BEGIN IMMEDIATE")
            try:
                yield db
            except BaseException:
                db.rollback()
                raise
            db.commit()

    def select(self, where: str = "TRUE", *values: Any) -> list[Job]:
        """Read the jobs that meet a condition, in the order of their numbers.

        Raises:
            OutputError: the file can not be read.
        """
        with self._sentences(), contextlib.closing(self._connect()) as db:
            found = db.execute(f"SELECT * FROM job WHERE {where} ORDER BY id", values)
            return [to_job(row) for row in found]

    def _connect(self) -> sqlite3.Connection:
        db = sqlite3.connect(self.path, timeout=BUSY_SECONDS, isolation_level=None)
        db.row_factory = sqlite3.Row
        return db

    @contextlib.contextmanager
    def _sentences(self) -> Iterator[None]:
        try:
            yield
        except sqlite3.IntegrityError:
            raise
        except (sqlite3.Error, OSError) as error:
            raise OutputError(
                f"The queue {self.path} can not be used ({error}); it needs room on a "
                f"local disk. Trainings that run already go on without it."
            ) from error


def to_job(row: sqlite3.Row) -> Job:
    """Make a ``Job`` of a row of the table."""
    values: dict[str, Any] = dict(row)
    for key in ("config", "changes"):
        values[key] = json.loads(values[key])
    values["run_dir"] = Path(values["run_dir"])
    values["state"] = JobState(values["state"])
    return Job(**values)
