"""Presets of the package and the user."""

from __future__ import annotations

import dataclasses
from pathlib import Path

from ..._exceptions import ConfigError
from ...config import load_config
from ...config.presets import Preset, list_presets
from ...config.reading import read_json
from ...methods import CATALOGUE
from .memory import home

__all__ = [
    "Entry",
    "demo",
    "entries",
    "preset_title",
    "source_name",
    "user_presets",
]

OWN = "Your presets"
DEMO = "demo_stiefel_lora"


@dataclasses.dataclass(frozen=True)
class Entry:
    """Preset in the list of presets."""

    name: str
    group: str
    """Model family and GPU memory, or ``OWN`` for presets of the user."""

    path: Path
    summary: str

    def matches(self, words: str) -> bool:
        """Return whether the name, group or summary contains all words."""
        text = f"{self.name} {self.group} {self.summary}".casefold()
        return all(word in text for word in words.casefold().split())


def user_presets() -> Path:
    """Return the folder of the user's presets."""
    return home() / "presets"


def entries(words: str = "") -> list[Entry]:
    """Return the presets that match a search. Presets of the user are first."""
    found = sorted(list_presets(), key=_place)
    ours = [Entry(p.name, _group(p), p.path, p.summary) for p in found if p.installed]
    return [entry for entry in [*_own(), *ours] if entry.matches(words)]


def demo() -> Path | None:
    """Return the demo preset if its model is available."""
    for preset in list_presets():
        if preset.name == DEMO:
            model = load_config(preset.path).base_model_name
            return preset.path if model and Path(model).is_dir() else None
    return None


def source_name(source: Path | None) -> str:
    """Return the name of the preset, or of the run folder of loaded settings."""
    if source is None:
        return "defaults"
    return source.parent.name if source.name == "config.json" else source.stem


def preset_title(source: Path | None, *, changed: bool) -> str:
    """Return the name of the preset, and whether settings have been changed."""
    return f"Preset: {source_name(source)}{' (changed)' if changed else ''}"


def _place(preset: Preset) -> tuple[str, int, int]:
    """Return the sort key of a preset: family, GPU memory and optimizer."""
    order = [*CATALOGUE]
    known = preset.optimizer in order
    place = order.index(preset.optimizer) if known else len(order)
    return preset.family, preset.memory_gb or 0, place


def _group(preset: Preset) -> str:
    """Return family and GPU memory, as shown in the list."""
    memory = preset.memory_gb
    return f"{preset.family}, {memory} GB" if memory else preset.family


def _own() -> list[Entry]:
    found = []
    for path in sorted(user_presets().glob("*.json")):
        try:
            comment = str(read_json(path).get("comment", ""))
        except ConfigError as error:
            comment = str(error)
        found.append(Entry(path.stem, OWN, path, comment.partition(". ")[0]))
    return found
