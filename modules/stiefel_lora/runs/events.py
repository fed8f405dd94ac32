"""Event log ``events.jsonl``, with a JSON object per line."""

from __future__ import annotations

import json
import math
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from .._exceptions import OutputError

if TYPE_CHECKING:
    from PIL import Image

__all__ = ["IMAGE_COUNT", "JsonlSink", "current_events", "event_in", "read_events"]


IMAGE_COUNT = "pictures"
"""Key of the number of training images in the event ``start``."""


class JsonlSink:
    """Sink that appends ``{"type", "step", "time", "values"}`` to a file.

    ``time`` is in seconds since 1970. Histograms and images are not written. NaN and
    infinity are written as null, because JSON does not support them.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        try:
            # A killed process may have left half a line; start on a new line.
            broken = path.is_file() and path.read_bytes()[-1:] not in (b"", b"\n")
            # File names that are not UTF-8 (PEP 383) become JSON escapes.
            self._file = path.open(
                "a", encoding="utf-8", errors="backslashreplace", newline="\n"
            )
            if broken:
                self._file.write("\n")
        except OSError as error:
            raise self._refused(error) from error

    def event(self, kind: str, step: int, values: Mapping[str, Any]) -> None:
        """Write an event."""
        line = {
            "type": kind,
            "step": step,
            "time": round(time.time(), 3),
            "values": {name: _plain(value) for name, value in values.items()},
        }
        try:
            self._file.write(json.dumps(line, ensure_ascii=False) + "\n")
            self._file.flush()
        except OSError as error:
            raise self._refused(error) from error

    def scalars(self, kind: str, step: int, values: Mapping[str, float]) -> None:
        """Write a line with all values."""
        self.event(kind, step, values)

    def histogram(self, tag: str, step: int, values: Sequence[float]) -> None:
        """Do nothing, because the values are logged as scalars."""

    def image(self, tag: str, step: int, image: Image.Image) -> None:
        """Do nothing, because images are saved as files."""

    def close(self) -> None:
        """Close the file."""
        self._file.close()

    def _refused(self, error: OSError) -> OutputError:
        return OutputError(f"{self._path} is not writable ({error.strerror}).")


def read_events(path: Path) -> Iterator[dict[str, Any]]:
    """Yield the events in a file. Incomplete lines are skipped."""
    if not path.is_file():
        return
    with path.open(encoding="utf-8", errors="replace") as file:
        for line in file:
            event = event_in(line)
            if event is not None:
                yield event


def event_in(line: str | bytes) -> dict[str, Any] | None:
    """Return the event in a line, or None if the line is incomplete or damaged."""
    try:
        value = json.loads(line)
    except (ValueError, RecursionError):
        return None
    return value if isinstance(value, dict) else None


def current_events(path: Path) -> list[dict[str, Any]]:
    """Return the events of a run, without those that are no longer valid.

    For a ``resume`` event at step N, earlier events of later steps are removed. They
    belong to steps after the last checkpoint of a killed process, or to an abandoned
    branch. Lines without type, step and values are skipped.
    """
    found: list[dict[str, Any]] = []
    for event in read_events(path):
        step = event.get("step")
        if type(step) is not int or not isinstance(event.get("values"), dict):
            continue
        if event.setdefault("type", None) == "resume":
            found = [earlier for earlier in found if earlier["step"] <= step]
        found.append(event)
    return found


def _plain(value: Any) -> Any:
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    return str(value) if isinstance(value, Path) else value
