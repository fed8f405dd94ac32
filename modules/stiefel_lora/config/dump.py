"""A configuration as text: lean for people, full for a run folder."""

from __future__ import annotations

import json
from typing import Any

from .schema import TrainConfig

__all__ = ["dump_full", "dump_lean", "lean"]


def lean(config: TrainConfig) -> dict[str, Any]:
    """Only what differs from the defaults, as JSON data; ``parse_config`` reads it."""
    data = config.model_dump(mode="json", by_alias=True, exclude_defaults=True)
    return {"schema_version": config.schema_version, **data}


def dump_lean(config: TrainConfig) -> str:
    """Give the text of ``lean``, as a preset holds it."""
    return _text(lean(config))


def dump_full(config: TrainConfig) -> str:
    """Give every key with its value, as a run folder keeps it."""
    return _text(config.model_dump(mode="json", by_alias=True))


def _text(data: dict[str, Any]) -> str:
    return json.dumps(data, indent=2, ensure_ascii=False) + "\n"
