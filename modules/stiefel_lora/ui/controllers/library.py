"""Presets to choose from: those of the package and the user's own."""

from __future__ import annotations

import dataclasses
from pathlib import Path

from ..._exceptions import ConfigError
from ...config.presets import list_presets
from ...config.reading import read_json
from .memory import home

__all__ = ["Entry", "entries", "user_presets"]

OWN = "Your presets"


@dataclasses.dataclass(frozen=True)
class Entry:
    """A preset in the chooser."""

    name: str
    group: str
    """Model family, or ``OWN``."""

    path: Path
    summary: str

    def matches(self, words: str) -> bool:
        """Whether each of ``words`` is in the name, group or summary."""
        text = f"{self.name} {self.group} {self.summary}".casefold()
        return all(word in text for word in words.casefold().split())


def user_presets() -> Path:
    """Folder of the presets that the user saved."""
    return home() / "presets"


def entries(words: str = "") -> list[Entry]:
    """Presets that match a search, the user's own first."""
    ours = [Entry(p.name, p.family, p.path, p.summary) for p in list_presets()]
    return [entry for entry in [*_own(), *ours] if entry.matches(words)]


def _own() -> list[Entry]:
    found = []
    for path in sorted(user_presets().glob("*.json")):
        try:
            comment = str(read_json(path).get("comment", ""))
        except ConfigError as error:
            comment = str(error)
        found.append(Entry(path.stem, OWN, path, comment.partition(". ")[0]))
    return found
