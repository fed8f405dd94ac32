"""Conversion of a configuration to JSON."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from .schema import TrainConfig

__all__ = ["dump_full", "dump_lean", "flat", "lean"]


def lean(config: TrainConfig) -> dict[str, Any]:
    """Return the settings that differ from the defaults, as JSON data."""
    data = config.model_dump(mode="json", by_alias=True, exclude_defaults=True)
    return {"schema_version": config.schema_version, **data}


def dump_lean(config: TrainConfig) -> str:
    """Return the settings that differ from the defaults as text, as in presets."""
    return _text(lean(config))


def dump_full(config: TrainConfig) -> str:
    """Return all settings as text, as saved in run folders."""
    data = config.model_dump(mode="json", by_alias=True)
    if config.epochs is not None:
        # Not known yet; the default would be a second length.
        del data["steps"]
    return _text(data)


def flat(config: Mapping[str, Any]) -> dict[str, Any]:
    """Flatten nested settings to dotted keys. Lists are not flattened.

    >>> flat({"steps": 4, "optimizer": {"name": "adamw", "eps": 1e-8}})
    {'steps': 4, 'optimizer.name': 'adamw', 'optimizer.eps': 1e-08}
    """
    found: dict[str, Any] = {}
    for key, value in config.items():
        if isinstance(value, Mapping):
            found |= {f"{key}.{name}": inner for name, inner in flat(value).items()}
        else:
            found[key] = value
    return found


def _text(data: dict[str, Any]) -> str:
    return json.dumps(data, indent=2, ensure_ascii=False) + "\n"
