"""Readers for files to which other processes append."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

from ..metrics.tags import AVERAGE_LOSS, MEAN_RANK
from ..runs.events import event_in
from ..runs.pace import Pace
from .job import Job, JobState

__all__ = ["Progress", "Tail", "Watch"]

_TAGS = {
    "loss": AVERAGE_LOSS,
    "validation_loss": "validation/loss",
    "effective_rank": MEAN_RANK,
}


class Tail:
    """Reader of new lines in a text file.

    Args:
        path: path of the file, which does not have to exist yet.
        at_end: whether to skip the current content.
    """

    def __init__(self, path: Path, *, at_end: bool = False) -> None:
        self._path = path
        self._position = path.stat().st_size if at_end and path.is_file() else 0

    def lines(self) -> list[str]:
        """Return the complete lines that were added since the last call."""
        try:
            with self._path.open("rb") as file:
                if file.seek(0, 2) < self._position:
                    # The file was replaced: the run was started again.
                    self._position = 0
                file.seek(self._position)
                data = file.read()
        except OSError:
            return []
        # A line that is being written is left for the next call: its JSON, and even its
        # last character, may be incomplete.
        whole = data[: data.rfind(b"\n") + 1]
        self._position += len(whole)
        return whole.decode("utf-8", errors="replace").splitlines()


@dataclasses.dataclass
class Progress:
    """Latest values of a training."""

    step: int = 0
    loss: float | None = None
    """Moving average of the training loss."""

    validation_loss: float | None = None
    effective_rank: float | None = None
    """Effective rank, averaged over all blocks."""

    pace: Pace = dataclasses.field(default_factory=Pace, repr=False, compare=False)
    """Times of the recent steps."""

    _history: dict[str, list[tuple[int, float | None]]] = dataclasses.field(
        default_factory=lambda: {name: [] for name in _TAGS},
        init=False,
        repr=False,
        compare=False,
    )

    def take(self, event: dict[str, Any]) -> None:
        """Update the values from an event in ``events.jsonl``."""
        kind, values = event.get("type"), event.get("values", {})
        if kind in ("start", "resume", "train"):
            self.step = event["step"]
        if kind in ("start", "resume"):
            self.pace.restart()
        elif kind == "train" and "time" in event:
            self.pace.take(self.step, float(event["time"]))
        for name, tag in _TAGS.items():
            found = self._history[name]
            # Discard values after this step, which an earlier process wrote.
            while kind == "resume" and found and found[-1][0] > self.step:
                found.pop()
            if tag in values:
                found.append((event["step"], values[tag]))
            setattr(self, name, found[-1][1] if found else None)

    def step_of(self, name: str) -> int:
        """Return the step at which a value was measured, or ``step`` without one."""
        found = self._history[name]
        return found[-1][0] if found else self.step


class Watch:
    """Progress of a job, read from the events of its training.

    Args:
        job: job whose run folder does not have to exist yet.
    """

    def __init__(self, job: Job) -> None:
        self._tail = Tail(job.folder.events_file)
        self._progress = Progress()

    def seconds_left(self, job: Job) -> float | None:
        """Estimate the remaining time of a running job in seconds, or None.

        Call :meth:`progress` before.
        """
        if job.state is not JobState.RUNNING:
            return None
        return self._progress.pace.seconds_left(job.steps)

    def progress(self) -> Progress:
        """Read new events and return the latest values."""
        for line in self._tail.lines():
            event = event_in(line)
            if event is not None:
                self._progress.take(event)
        return self._progress
