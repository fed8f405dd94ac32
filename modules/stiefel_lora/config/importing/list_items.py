"""Objects in a list of the source, such as concepts, and entries of other values."""

from __future__ import annotations

from typing import Any

from .import_report import Entry

__all__ = ["objects_in"]


def objects_in(
    value: Any, key: str, entries: list[Entry], *, matters: bool = True
) -> list[tuple[int, dict[str, Any]]]:
    """Return the objects in a list and their positions.

    Values of another type get an entry, since the other program cannot read them.

    Args:
        value: value of the key.
        key: dotted key of the list in the source.
        entries: entries of the report, to which those of other values are added.
        matters: whether other values change training.
    """
    if value is None or value == "" or value == {}:
        return []
    if not isinstance(value, list):
        entries.append(_other(key, value, "is not a list", matters))
        return []
    found = []
    for number, item in enumerate(value):
        if isinstance(item, dict):
            found.append((number, item))
        else:
            note = "is not an object with keys"
            entries.append(_other(f"{key}.{number}", item, note, matters))
    return found


def _other(key: str, value: Any, note: str, matters: bool) -> Entry:
    return Entry(key, value, "ignored", note=note, matters=matters)
