"""Differences between the settings and their preset."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Iterator
from typing import Any

from ..._wording import counted
from .document import Document
from .library import source_name
from .pages import all_fields, label_of

__all__ = ["HEADINGS", "Difference", "count_of_differences", "differences", "shown"]

HEADINGS = ("Setting", "Preset", "Current")


@dataclasses.dataclass(frozen=True)
class Difference:
    """Setting with its value in the preset and its current value, as text."""

    key: str
    label: str
    before: str
    now: str


def differences(document: Document) -> list[Difference]:
    """Return the settings that differ from the preset, in schema order."""
    before = Document()
    before.data = document.baseline
    return [
        Difference(key, label, shown(then), shown(now))
        for key in all_fields()
        for label, then, now in _pairs(key, before, document)
        if then != now
    ]


def count_of_differences(document: Document, count: int) -> str:
    """Return the number of differences, and the name of the preset, as text."""
    source = document.source
    name = f"the preset {source_name(source)}" if source else "the defaults"
    return f"{counted(count, 'setting differs', 'settings differ')} from {name}."


def _pairs(
    key: str, before: Document, after: Document
) -> Iterator[tuple[str, Any, Any]]:
    """Compare a setting, or each option of the optimizer."""
    then, now, name = before.value(key), after.value(key), after.optimizer
    if key != "optimizer" or then["name"] != now["name"]:
        yield label_of(key, name), then, now
        return
    for option in sorted({*then, *now}):
        dotted = f"optimizer.{option}"
        yield label_of(dotted, name), before.value(dotted), after.value(dotted)


def shown(value: Any) -> str:
    """Format a value as short text."""
    if value is None:
        return "not set"
    if isinstance(value, bool):
        return "on" if value else "off"
    if isinstance(value, dict) and value.keys() == {"name"}:
        return str(value["name"])
    if isinstance(value, str):
        return value or "empty"
    text = json.dumps(value, ensure_ascii=False)
    return text if len(text) <= 120 else f"{text[:117]}..."
