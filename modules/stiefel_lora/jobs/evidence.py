"""State of a training according to its run folder. Does not import torch."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from .._exceptions import ConfigError
from ..config import dump_full, parse_config
from ..runs.events import current_events
from ..runs.run_folder import NOTES_AND_PLACES, RunFolder

__all__ = ["different_settings", "end_of", "is_finished", "newest_step"]


def end_of(folder: RunFolder) -> dict[str, Any] | None:
    """Return the values of the final event, or None if the training has not ended."""
    ends = [e for e in current_events(folder.events_file) if e["type"] == "end"]
    return {**ends[-1]["values"], "step": ends[-1]["step"]} if ends else None


def is_finished(folder: RunFolder, steps: int) -> bool:
    """Return whether all steps were trained and the LoRA files were written."""
    end = end_of(folder)
    return end is not None and end["step"] >= steps


def newest_step(folder: RunFolder) -> int:
    """Return the step of the latest checkpoint, or 0."""
    names = [path.name.removeprefix("step-") for path in folder.checkpoints.glob("s*")]
    return max((int(name) for name in names if name.isdecimal()), default=0)


def different_settings(
    folder: RunFolder, config: Mapping[str, Any]
) -> list[str] | None:
    """Return the settings in which a run differs from ``config``.

    None if ``config.json`` in the folder cannot be read.
    """
    there = _config_in(folder.config_file)
    if there is None:
        return None
    here = _with_defaults(config)
    # Runs that only differ in these are the same training.
    keys = (there.keys() | here.keys()) - NOTES_AND_PLACES
    return sorted(key for key in keys if there.get(key) != here.get(key))


def _config_in(path: Path) -> dict[str, Any] | None:
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None
    return _with_defaults(found) if isinstance(found, dict) else None


def _with_defaults(config: Mapping[str, Any]) -> dict[str, Any]:
    """Add settings that are missing in configurations of older versions."""
    try:
        return json.loads(dump_full(parse_config(config)))
    except ConfigError:
        return dict(config)
