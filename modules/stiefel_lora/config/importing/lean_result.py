"""A valid and lean configuration from imported settings."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any

from pydantic import ValidationError

from ..._exceptions import ConfigError
from ..dump import lean
from ..errors import violations_in
from ..schema import TrainConfig
from ..violation import Violation
from .import_report import Entry, Report

__all__ = ["Imported", "finished", "nested"]

# Each round removes one setting. No source has that many.
_ROUNDS = 2000
# They change time or memory, but no results, so that they give way to other settings.
_TECHNICAL = ("compile", "attention_mechanism", "gradient_checkpointing")


@dataclasses.dataclass(frozen=True)
class Imported:
    """An imported configuration.

    Attributes:
        data: configuration, with the settings that differ from the defaults. Paths are
            as in the source.
        report: what became of each key.
    """

    data: dict[str, Any]
    report: Report


def nested(flat: Mapping[str, Any]) -> dict[str, Any]:
    """Return settings by dotted key as nested dictionaries."""
    found: dict[str, Any] = {}
    for key, value in flat.items():
        *path, name = key.split(".")
        place = found
        for part in path:
            place = place.setdefault(part, {})
        place[name] = value
    return found


def finished(
    data: dict[str, Any], entries: list[Entry], source: str, notes: list[str]
) -> Imported:
    """Remove what is not valid here, with the reason, and what is a default.

    Raises:
        ConfigError: If no valid configuration remains.
    """
    data.setdefault("optimizer", {"name": "adamw"})
    for _ in range(_ROUNDS):
        found = _violation(data)
        if found is None:
            break
        technical = _giving_way(data, found)
        key = technical or _removed(data, found.key)
        if key is None:
            raise ConfigError(str(found))
        if technical:
            del data[technical]
        entries = [_without(entry, key, found) for entry in entries]
        if key == "optimizer":
            # Not the default here, whose learning rate has another unit.
            data["optimizer"] = {"name": "adamw"}
    config = TrainConfig.model_validate(data)
    result = _with_paths(lean(config), data)
    # Spelled out, as in presets, even if it is the default.
    result.setdefault("optimizer", {"name": config.optimizer.name})
    report = Report(source, tuple(entries), tuple(notes))
    result["comment"] = _comment(str(data.get("comment") or ""), report)
    order = {key: result[key] for key in TrainConfig.model_fields if key in result}
    return Imported(order, report)


def _violation(data: dict[str, Any]) -> Violation | None:
    try:
        TrainConfig.model_validate(data)
    except ValidationError as error:
        return violations_in(error, list(TrainConfig.model_fields))[0]
    return None


def _giving_way(data: dict[str, Any], found: Violation) -> str | None:
    """Return the technical setting without which a violation does not occur."""
    for key in _TECHNICAL:
        if key in data:
            rest = {name: value for name, value in data.items() if name != key}
            left = _violation(rest)
            if left is None or (left.key, left.message) != (found.key, found.message):
                return key
    return None


def _removed(data: dict[str, Any], key: str) -> str | None:
    """Remove a setting, or the innermost object that contains it. Return its key."""
    path = key.split(".")
    while path and path[0]:
        place: Any = data
        for part in path[:-1]:
            place = _inside(place, part)
        name = path[-1]
        if isinstance(place, dict) and name in place and name != "name":
            del place[name]
            return ".".join(path)
        if isinstance(place, list) and name.isdecimal() and int(name) < len(place):
            del place[int(name)]
            return ".".join(path)
        path.pop()
    return None


def _inside(place: Any, part: str) -> Any:
    if isinstance(place, dict):
        return place.get(part)
    if isinstance(place, list) and part.isdecimal() and int(part) < len(place):
        return place[int(part)]
    return None


def _without(entry: Entry, key: str, found: Violation) -> Entry:
    """Return the entry without a setting that was removed."""
    kept = tuple(item for item in entry.sets if not _is_below(item[0], key))
    if len(kept) == len(entry.sets):
        return entry
    technical = key in _TECHNICAL
    note = f"{key} {found.message}"
    if technical and found.key != key:
        note = f"{key} does not change results, and {found.key} {found.message}"
    return dataclasses.replace(
        entry,
        outcome="translated" if kept else "ignored",
        sets=kept,
        note=note,
        matters=entry.matters if technical else True,
    )


def _is_below(setting: str, removed: str) -> bool:
    """Return whether a setting is removed. ``*`` is any index."""
    parts, gone = setting.split("."), removed.split(".")
    return len(parts) >= len(gone) and all(
        one in (other, "*") for one, other in zip(parts, gone, strict=False)
    )


def _with_paths(result: dict[str, Any], data: dict[str, Any]) -> dict[str, Any]:
    """Write paths as in the source, since ``Path`` changes their form."""
    for key in ("concepts", "validation_concepts"):
        for item, given in zip(result.get(key, ()), data.get(key, ()), strict=False):
            for name in ("path", "prompt_path"):
                if name in item:
                    item[name] = str(given[name])
    for key in ("output_dir", "cache_dir"):
        if key in result:
            result[key] = str(data[key])
    return result


def _comment(own: str, report: Report) -> str:
    parts = [own] if own else []
    parts.append(f"Imported from {report.source}.")
    lost = [entry.key for entry in report.differences]
    if lost:
        parts.append(f"Training differs in: {', '.join(lost)}.")
    return " ".join(parts)
