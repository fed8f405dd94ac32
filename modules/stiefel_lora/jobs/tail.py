"""Follow files that other processes append to."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path
from typing import Any

from ..metrics.tags import MEAN_RANK
from .job import Job

__all__ = ["Progress", "Tail", "Watch"]

_TAGS = {
    "loss": "loss/train_smooth",
    "held_out": "validation/loss",
    "effective_rank": MEAN_RANK,
}


class Tail:
    """New whole lines of a text file, each time it is asked.

    Args:
        path: the file; it may not be there yet.
        at_end: pass over what is in it now.
    """

    def __init__(self, path: Path, *, at_end: bool = False) -> None:
        self._path = path
        self._position = path.stat().st_size if at_end and path.is_file() else 0

    def lines(self) -> list[str]:
        """Lines that were completed since the last call."""
        try:
            with self._path.open("rb") as file:
                if file.seek(0, 2) < self._position:
                    # Another file took its name: a run that was begun again.
                    self._position = 0
                file.seek(self._position)
                data = file.read()
        except OSError:
            return []
        whole = data[: data.rfind(b"\n") + 1]
        self._position += len(whole)
        return whole.decode("utf-8", errors="replace").splitlines()


@dataclasses.dataclass
class Progress:
    """The latest figures of a training."""

    step: int = 0
    loss: float | None = None
    """Training loss, smoothed."""

    held_out: float | None = None
    effective_rank: float | None = None
    """Mean over the blocks."""

    _history: dict[str, list[tuple[int, float | None]]] = dataclasses.field(
        default_factory=lambda: {name: [] for name in _TAGS},
        init=False,
        repr=False,
        compare=False,
    )

    def take(self, event: dict[str, Any]) -> None:
        """Bring the figures up to date with an event of ``events.jsonl``."""
        kind, values = event.get("type"), event.get("values", {})
        if kind in ("start", "resume", "train"):
            self.step = event["step"]
        for name, tag in _TAGS.items():
            found = self._history[name]
            # Figures of an earlier process after this step are not those of the run.
            while kind == "resume" and found and found[-1][0] > self.step:
                found.pop()
            if tag in values:
                found.append((event["step"], values[tag]))
            setattr(self, name, found[-1][1] if found else None)


class Watch:
    """Progress of a job, read from the events of its training.

    Args:
        job: the job; its run's folder may not be there yet.
    """

    def __init__(self, job: Job) -> None:
        self._tail = Tail(job.folder.events_file)
        self._progress = Progress()

    def progress(self) -> Progress:
        """Read what is new and give the latest figures."""
        for line in self._tail.lines():
            try:
                event = json.loads(line)
            except ValueError:
                continue
            if isinstance(event, dict):
                self._progress.take(event)
        return self._progress
