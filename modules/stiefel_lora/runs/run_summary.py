"""Summary of a run: what was trained, with which settings, and how it ended."""

from __future__ import annotations

import contextlib
import dataclasses
import datetime
import json
from pathlib import Path
from typing import Any

from .._exceptions import InputError, OutputError
from .._locks import is_held
from .._text import read_text
from ..metrics.tags import AVERAGE_LOSS, MEAN_RANK
from .events import current_events
from .run_folder import RunFolder
from .run_lock import run_lock_path

__all__ = ["Curve", "RunSummary", "find_runs", "is_running", "read_run"]

Curve = list[tuple[int, float]]
"""Pairs of step and value."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class RunSummary:
    """Settings, events and state of a run."""

    folder: RunFolder
    config: dict[str, Any]
    """Settings of the run. Empty if ``config.json`` cannot be read."""

    events: list[dict[str, Any]]
    running: bool

    @property
    def name(self) -> str:
        """Name of the folder."""
        return self.folder.root.name

    @property
    def step(self) -> int:
        """Last completed step."""
        return max((event["step"] for event in self.events), default=0)

    @property
    def state(self) -> str:
        """State of the run, with the reason if it failed."""
        if self.running:
            return "running"
        kinds = {event["type"]: event["values"] for event in self.events[-1:]}
        if "end" in kinds:
            return "finished"
        if "stop" in kinds:
            return "interrupted"
        if "error" in kinds:
            return f"failed: {kinds['error'].get('message', '')}"
        return "killed"

    @property
    def began(self) -> datetime.datetime | None:
        """Local time of the first event."""
        times = [event.get("time") for event in self.events[:1]]
        if not times or not isinstance(times[0], int | float):
            return None
        return datetime.datetime.fromtimestamp(times[0])

    @property
    def seconds(self) -> float:
        """Duration of all processes of the run in seconds."""
        total, first, last = 0.0, None, None
        for event in self.events:
            now = event.get("time")
            if not isinstance(now, int | float):
                continue
            if event["type"] in ("start", "resume") and first is not None:
                # The time between two processes is not part of the training.
                total, first = total + (last or first) - first, now
            first, last = (now if first is None else first), now
        return total + ((last or 0.0) - (first or 0.0))

    @property
    def files(self) -> list[Path]:
        """LoRA files."""
        return sorted(self.folder.lora.glob("*.safetensors"))

    def curve(self, tag: str) -> Curve:
        """Return the values of a tag by step."""
        found = {
            event["step"]: float(event["values"][tag])
            for event in self.events
            if isinstance(event["values"].get(tag), int | float)
        }
        return sorted(found.items())

    def last(self, tag: str) -> float | None:
        """Return the last value of a tag, or None."""
        curve = self.curve(tag)
        return curve[-1][1] if curve else None

    def figures(self) -> dict[str, float | None]:
        """Return the final values by name. None if they were not measured."""
        return {
            "training loss": self.last(AVERAGE_LOSS),
            "validation loss": self.last("validation/loss"),
            "effective rank": self.last(MEAN_RANK),
        }


def read_run(root: Path) -> RunSummary:
    """Read the summary of a run folder.

    Raises:
        InputError: If the folder is not a run folder.
    """
    folder = RunFolder(root)
    if not folder.events_file.is_file():
        raise InputError(
            f"{root} is not a run folder: it contains no events.jsonl. Give a run "
            "folder such as runs/my_run."
        )
    return RunSummary(
        folder=folder,
        config=_config(folder),
        events=current_events(folder.events_file),
        running=is_running(root),
    )


def find_runs(place: Path) -> list[Path]:
    """Return the run folders in a folder, or the folder itself if it is one.

    Raises:
        InputError: If the folder does not exist.
    """
    if not place.is_dir():
        raise InputError(f"{place} is not a folder. Give the output_dir of your runs.")
    if RunFolder(place).events_file.is_file():
        return [place]
    return sorted(path.parent for path in place.glob("*/events.jsonl"))


def is_running(root: Path) -> bool:
    """Return whether a process uses a run folder."""
    # For names too long for a lock, and disks without locks, it is unknown.
    with contextlib.suppress(OSError, OutputError):
        return is_held(run_lock_path(root.absolute()))
    return False


def _config(folder: RunFolder) -> dict[str, Any]:
    try:
        found = json.loads(read_text(folder.config_file))
    except (OSError, ValueError, RecursionError):
        return {}
    return found if isinstance(found, dict) else {}
