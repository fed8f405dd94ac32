"""Data of a run that is displayed in the GUI.

Only new lines of ``events.jsonl`` are read in an update.
"""

from __future__ import annotations

import contextlib
import dataclasses
import functools
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

from ...runs.pace import Pace
from ...runs.run_folder import RunFolder
from .new_events import NewEvents, read_events
from .rank_table import RankTable
from .series import Series

__all__ = ["RunRecord", "SampleRound"]

_ENDS = {"end": "done", "stop": "stopped", "error": "failed"}


@dataclasses.dataclass(frozen=True)
class SampleRound:
    """Sample images of one step."""

    step: int
    files: tuple[Path, ...]


class RunRecord:
    """Values, sample images and state of a run.

    Args:
        root: run folder, which does not have to exist yet.
    """

    def __init__(self, root: Path) -> None:
        self.folder = RunFolder(root)
        self.series: dict[str, Series] = {}
        """Values over steps by tag, except for those of single blocks."""

        self.ranks = RankTable()
        self.rounds: list[SampleRound] = []
        self.config = _read_object(self.folder.config_file)
        self.step = 0
        self.steps = int(self.config.get("steps") or 0)
        self.state = "waiting"
        """State of the run: waiting, running, stopped, done or failed."""

        self.message = ""
        self.lora_files: list[Path] = []
        self.checkpoint_step: int | None = None
        self.behind = False
        """Whether there is unread data."""

        self.rewinds = 0
        """Number of times that values were removed, because the run was resumed."""

        self._position = 0
        self._written: dict[Path, int] = {}
        self._pace = Pace()

    def look(self) -> bool:
        """Read new events. Return whether there are any."""
        return self.take(self.reading()())

    def reading(self, size: int | None = None) -> Callable[[], NewEvents]:
        """Return a function that reads what is new. It can be called in a thread.

        Args:
            size: number of bytes to read at a time.
        """
        path = self.folder.events_file
        return functools.partial(read_events, path, self._position, size)

    def take(self, new: NewEvents) -> bool:
        """Take over events that were read. Return whether there are any."""
        if new.start != self._position:
            return False
        self._position, self.behind = new.end, new.behind
        for event in new.events:
            # One damaged line must not hide the rest of a run.
            with contextlib.suppress(KeyError, TypeError, ValueError):
                self._take(event)
        return bool(new.events)

    @property
    def seconds_left(self) -> float | None:
        """Estimated remaining time in seconds."""
        if self.state != "running":
            return None
        return self._pace.seconds_left(self.steps)

    def latest(self, tag: str) -> float | None:
        """Return the latest value of a tag."""
        found = self.series.get(tag)
        return found.last if found else None

    # Reading -------------------------------------------------------------------------

    def _take(self, event: dict[str, Any]) -> None:
        kind, step, values = event.get("type"), event.get("step"), event["values"]
        if not isinstance(step, int):
            return
        handler = getattr(self, f"_take_{kind}", None)
        if handler is not None:
            handler(step, values, event)
        elif kind in _ENDS:
            self._end(str(kind), step, values)
        else:
            self._numbers(step, values)

    def _take_start(self, step: int, values: dict[str, Any], event: Any) -> None:
        self.state, self.message = "running", ""
        self.step = step
        self._pace.restart()
        self.steps = int(values.get("steps") or self.steps)
        self.ranks.rank = float(values.get("rank") or 0)
        if not self.config:
            self.config = _read_object(self.folder.config_file)

    def _take_resume(self, step: int, values: dict[str, Any], event: Any) -> None:
        """Remove values after the checkpoint from which the run was resumed."""
        self._take_start(step, values, event)
        for series in self.series.values():
            series.cut(step)
        self.ranks.cut(step)
        self.rounds = [found for found in self.rounds if found.step <= step]
        self.checkpoint_step = step
        self.rewinds += 1
        if values.get("abandoned"):
            # Files of later steps were moved aside; without a branch they are kept.
            late = {path for path, last in self._written.items() if last > step}
            self.lora_files = [path for path in self.lora_files if path not in late]

    def _take_train(self, step: int, values: dict[str, Any], event: Any) -> None:
        self.step = step
        self._pace.take(step, float(event["time"]))
        self._numbers(step, values)

    def _take_ranks(self, step: int, values: dict[str, Any], event: Any) -> None:
        self.ranks.add(step, values)
        self._numbers(step, {k: v for k, v in values.items() if "." not in k})

    def _take_sample(self, step: int, values: dict[str, Any], event: Any) -> None:
        files = tuple(self.folder.samples / str(name) for name in values["files"])
        self.rounds = [found for found in self.rounds if found.step != step]
        self.rounds.append(SampleRound(step, files))

    def _take_lora(self, step: int, values: dict[str, Any], event: Any) -> None:
        for name in values["files"]:
            path = self.folder.lora / str(name)
            self._written[path] = step
            if path not in self.lora_files:
                self.lora_files.append(path)

    def _take_lora_removed(self, step: int, values: dict[str, Any], event: Any) -> None:
        gone = {self.folder.lora / str(name) for name in values["files"]}
        self.lora_files = [path for path in self.lora_files if path not in gone]

    def _take_checkpoint(self, step: int, values: dict[str, Any], event: Any) -> None:
        self.checkpoint_step = step

    def _end(self, kind: str, step: int, values: dict[str, Any]) -> None:
        self.state = _ENDS[kind]
        self.step = max(self.step, step)
        self.message = str(values.get("message", ""))

    def _numbers(self, step: int, values: dict[str, Any]) -> None:
        for tag, value in values.items():
            if isinstance(value, int | float) and not isinstance(value, bool):
                self.series.setdefault(tag, Series()).add(step, float(value))


def _read_object(path: Path) -> dict[str, Any]:
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return found if isinstance(found, dict) else {}
