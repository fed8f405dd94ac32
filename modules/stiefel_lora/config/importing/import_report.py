"""Report of an import: each key of the source and what became of it."""

from __future__ import annotations

import dataclasses
import json
import re
from collections.abc import Iterable
from typing import Any, Literal

from ..._wording import counted

__all__ = ["Entry", "Outcome", "Report"]

Outcome = Literal["taken", "translated", "ignored"]

_LONGEST = 60
# Reports are shared, so they contain no secrets.
_SECRET = re.compile(r"(?i)api_key|password|secret|(hf|hub|huggingface)_token|cloud")


@dataclasses.dataclass(frozen=True)
class Entry:
    """A key of the source.

    Attributes:
        key: dotted key in the source, such as ``optimizer.beta1``.
        value: its value.
        outcome: taken, translated or ignored.
        sets: settings of this package and their values.
        note: reason, or "".
        matters: whether training differs from that of the source.
        is_default: whether the key is missing from the source, so that the default of
            the other program was used.
    """

    key: str
    value: Any
    outcome: Outcome
    sets: tuple[tuple[str, Any], ...] = ()
    note: str = ""
    matters: bool = False
    is_default: bool = False

    def __str__(self) -> str:
        """Return key, value, settings and reason as one line."""
        origin = " (default)" if self.is_default else ""
        hidden = self.value and _SECRET.search(self.key)
        value = "(hidden)" if hidden else _shown(self.value)
        text = f"{self.key} = {value}{origin}"
        if self.sets:
            found = ", ".join(f"{key} = {_shown(value)}" for key, value in self.sets)
            text += f" -> {found}"
        return f"{text}: {self.note}" if self.note else text


@dataclasses.dataclass(frozen=True)
class Report:
    """Result of an import.

    Attributes:
        source: name of the other program.
        entries: an entry for each key, in the order of the source.
        notes: lines about the whole configuration, such as a guess.
    """

    source: str
    entries: tuple[Entry, ...]
    notes: tuple[str, ...] = ()

    def of(self, outcome: Outcome) -> list[Entry]:
        """Return the entries with an outcome."""
        return [entry for entry in self.entries if entry.outcome == outcome]

    @property
    def differences(self) -> list[Entry]:
        """Entries because of which training differs from that of the source."""
        return [entry for entry in self.entries if entry.matters]

    def lines(self) -> list[str]:
        """Return the report as text. Keys that change training are marked by ``!``."""
        found = [f"Imported from {self.source}.", *self.notes]
        for outcome in ("taken", "translated", "ignored"):
            entries = self.of(outcome)
            if entries:
                found.append(f"{outcome} ({len(entries)}):")
                found += [f"  {'!' if e.matters else ' '} {e}" for e in entries]
        return [*found, _summary(self.differences)]


def _summary(entries: Iterable[Entry]) -> str:
    keys = [entry.key for entry in entries]
    if not keys:
        return "Nothing that changes training was left out."
    return (
        f"{counted(len(keys), 'key changes', 'keys change')} training compared with "
        f"the source (marked by !): {', '.join(keys)}."
    )


def _shown(value: Any) -> str:
    text = json.dumps(value, ensure_ascii=False, default=str)
    return text if len(text) <= _LONGEST else f"{text[: _LONGEST - 3]}..."
