"""Differences between the settings of several jobs."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from ..config.dump import flat

__all__ = ["different_keys"]

# Names and paths, which do not affect the training.
_NAMES = frozenset({"comment", "run_name", "output_dir", "cache_dir", "schema_version"})


def different_keys(configs: Sequence[Mapping[str, Any]]) -> list[str]:
    """Return the dotted keys whose values differ, in schema order.

    Options of an optimizer are only compared between jobs with the same optimizer.
    """
    flats = [flat(config) for config in configs]
    keys = dict.fromkeys(key for values in flats for key in values)
    return [key for key in keys if key not in _NAMES and _differs(key, flats)]


def _differs(key: str, flats: Sequence[Mapping[str, Any]]) -> bool:
    is_option = key.startswith("optimizer.") and key != "optimizer.name"
    seen: dict[Any, set[str]] = {}
    for values in flats:
        group = values.get("optimizer.name") if is_option else None
        if key in values:
            seen.setdefault(group, set()).add(repr(values[key]))
    return any(len(values) > 1 for values in seen.values())
