"""Runs that the server shows, each with one record for all browsers."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Sequence
from pathlib import Path
from urllib.parse import quote

from ...runs.run_folder import RunFolder
from ..controllers.run_record import RunRecord
from ..controllers.trainings import Trainings
from .served_images import name_of_folder

__all__ = ["RunBook"]

# Seconds for which a record is read on after it was last asked for.
_WATCHED_SECONDS = 30.0
# Seconds between two readings of a run of which everything was read.
_READ_SECONDS = 0.5
# Bytes of a run that are read at a time. Its values are added in a few milliseconds, in
# which nothing else is served.
_READ_BYTES = 1 << 18
# Seconds for which the list of folders is kept.
_LIST_SECONDS = 2.0


class RunBook:
    """Run folders of the queue and below some folders.

    Args:
        trainings: the queue.
        parents: folders whose subfolders with events are runs.
    """

    def __init__(self, trainings: Trainings, parents: Sequence[Path] = ()) -> None:
        self.trainings = trainings
        self.parents = [parent.expanduser().resolve() for parent in parents]
        self._records: dict[Path, RunRecord] = {}
        self._revisions: dict[Path, int] = {}
        self._asked: dict[Path, float] = {}
        self._readers: dict[Path, asyncio.Task[None]] = {}
        self._listed: tuple[float, list[Path]] = (float("-inf"), [])

    def folders(self) -> list[Path]:
        """Return the run folders, newest first."""
        then, found = self._listed
        if time.monotonic() - then > _LIST_SECONDS:
            found = self._list()
            self._listed = (time.monotonic(), found)
        return list(found)

    def id_of(self, run_dir: Path) -> str:
        """Return the name of a run in URLs, 16 hexadecimal digits."""
        return name_of_folder(run_dir)

    def find(self, run_id: str) -> Path | None:
        """Return the run folder with a name in URLs, or None."""
        for fresh in (False, True):
            if fresh:
                self._listed = (float("-inf"), [])
            for folder in self.folders():
                if name_of_folder(folder) == run_id:
                    return folder
        return None

    def record(self, run_dir: Path) -> RunRecord:
        """Return the record of a run, which is read on while it is asked for.

        A new record is empty until its first events were read. Called in the event
        loop. Do not call the method ``look`` of the record.
        """
        self._asked[run_dir] = time.monotonic()
        if run_dir not in self._records:
            record = self._records[run_dir] = RunRecord(run_dir)
            job = self.trainings.job_of(run_dir)
            if job is not None:
                record.steps = record.steps or job.steps
            reader = asyncio.create_task(self._read_on(run_dir, record))
            self._readers[run_dir] = reader
        return self._records[run_dir]

    def revision(self, run_dir: Path) -> int:
        """Return a number that grows whenever a record has new data."""
        return self._revisions.get(run_dir, 0)

    def close(self) -> None:
        """Stop reading."""
        for reader in self._readers.values():
            reader.cancel()

    async def _read_on(self, run_dir: Path, record: RunRecord) -> None:
        """Read a run in threads, until nobody has asked for it for a while.

        Only this task changes the record, between two readings, so that pages never
        find half of the values of an event.
        """
        try:
            while time.monotonic() - self._asked[run_dir] < _WATCHED_SECONDS:
                new = await asyncio.to_thread(record.reading(_READ_BYTES))
                if record.take(new):
                    self._revisions[run_dir] = self.revision(run_dir) + 1
                await asyncio.sleep(0 if record.behind else _READ_SECONDS)
        finally:
            for memory in (self._asked, self._records, self._readers):
                memory.pop(run_dir, None)

    def url_of(self, path: Path, side: int | None = None) -> str:
        """Return the URL of a file in a run folder.

        Args:
            path: absolute path of the file.
            side: length of the longer edge in pixels to which an image is reduced. If
                None, the file itself is served.

        Raises:
            ValueError: If no known run contains the file.
        """
        for run_dir in self.folders():
            if path.is_relative_to(run_dir):
                place = quote(path.relative_to(run_dir).as_posix())
                reduced = "" if side is None else f"?side={side}"
                return f"/runs/{name_of_folder(run_dir)}/files/{place}{reduced}"
        raise ValueError(f"{path} is not in a run folder")

    def zip_url(self, run_dir: Path, *, checkpoints: bool = False) -> str:
        """Return the URL of a run as a zip file."""
        return f"/runs/{name_of_folder(run_dir)}/run.zip" + (
            "?checkpoints=1" if checkpoints else ""
        )

    def _list(self) -> list[Path]:
        found = {job.run_dir: job.added for job in self.trainings.jobs()}
        for parent in self.parents:
            try:
                children = list(parent.iterdir())
            except OSError:
                continue
            for child in children:
                if child.is_symlink() or child in found:
                    continue
                events = RunFolder(child).events_file
                if events.is_file():
                    found[child] = events.stat().st_mtime
        return sorted(found, key=lambda folder: found[folder], reverse=True)
