"""New lines of the file with the events of a run.

Reading changes no shared state, so it can be done in a thread.
"""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

from ...runs.events import event_in

__all__ = ["NewEvents", "read_events"]

# Bytes that are read at a time, so that a long run does not block a GUI.
_BYTES = 2 << 20


@dataclasses.dataclass(frozen=True)
class NewEvents:
    """Events of the lines between two positions of a file, in bytes."""

    events: list[dict[str, Any]]
    start: int
    end: int
    behind: bool = False
    """Whether there is unread data."""


def read_events(path: Path, start: int, size: int | None = None) -> NewEvents:
    """Read and parse whole lines of a file. Lines that are no events are skipped.

    Args:
        path: file with the events, which does not have to exist yet.
        start: position after the last line that was read.
        size: number of bytes to read. More are read if there is no whole line.
    """
    size = size or _BYTES
    try:
        # A pipe would wait for a writer.
        if not path.is_file():
            return NewEvents([], start, start)
        with path.open("rb") as file:
            file.seek(start)
            data = file.read(size)
            while len(data) >= size and b"\n" not in data[-size:]:
                more = file.read(size)
                if not more:
                    break
                data += more
    except OSError:
        return NewEvents([], start, start)
    whole = data[: data.rfind(b"\n") + 1]
    behind = len(data) >= size and bool(whole)
    events = [
        event
        for event in map(event_in, whole.splitlines())
        if event is not None and isinstance(event.get("values"), dict)
    ]
    return NewEvents(events, start, start + len(whole), behind)
