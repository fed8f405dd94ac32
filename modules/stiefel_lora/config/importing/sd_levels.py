"""Options of a dataset of sd-scripts, from the levels at which they can be set."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any

from .import_report import Entry
from .sd_data import DATASET

__all__ = ["overridden", "same_for_all", "unlike_first"]

Levels = Sequence[Mapping[str, Any]]
"""A dataset, general settings and the command line: the first one counts."""

_NAMES = {"train_batch_size": "batch_size"}
_DEFAULTS: dict[str, Any] = {
    "batch_size": 1,
    "bucket_no_upscale": False,
    "bucket_reso_steps": 64,
    "enable_bucket": False,
    "max_bucket_reso": 1024,
    "min_bucket_reso": 256,
    "network_multiplier": 1,
    "prior_loss_weight": 1,
    "validation_split": 0,
}
_OF_BUCKETS = (
    "bucket_no_upscale",
    "bucket_reso_steps",
    "max_bucket_reso",
    "min_bucket_reso",
)
_USED = "that of the first dataset is used"


def _value(key: str, levels: Levels) -> Any:
    """Return the value that sd-scripts uses for a dataset."""
    name = _NAMES.get(key, key)
    names = (name, *(other for other, one in _NAMES.items() if one == name))
    for level in levels:
        for each in names:
            if level.get(each) not in (None, ""):
                return level[each]
    return _DEFAULTS.get(name)


def _has_effect(key: str, levels: Levels) -> bool:
    if key in _OF_BUCKETS:
        return bool(_value("enable_bucket", levels))
    if key == "prior_loss_weight":
        subsets = levels[0].get("subsets")
        found = subsets if isinstance(subsets, list) else []
        return any(isinstance(each, dict) and each.get("is_reg") for each in found)
    if key == "validation_seed":
        return bool(_value("validation_split", levels))
    return key != "debug_dataset"


def same_for_all(entry: Entry, levels: Levels, first: Levels) -> Entry:
    """Return the entry of a dataset, ignored if the first one has another value."""
    key = entry.key.rpartition(".")[2]
    if key not in DATASET or _value(key, first) == entry.value:
        return entry
    if key == "resolution":
        sets = tuple(("concepts.*.resolutions", [side]) for _, side in entry.sets)
        note = "for the concepts of this dataset"
        return dataclasses.replace(entry, outcome="translated", sets=sets, note=note)
    return _differs(entry, matters=_has_effect(key, levels))


def unlike_first(prefix: str, levels: Levels, first: Levels) -> list[Entry]:
    """Return the entries of options that a dataset lacks, but not the first one."""
    entries = []
    for key in DATASET:
        # The resolution is a setting of concepts.
        if key in levels[0] or key in _NAMES or key == "resolution":
            continue
        own = _value(key, levels)
        if own != _value(key, first) and _has_effect(key, levels):
            unset = own == _DEFAULTS.get(key) and not any(key in one for one in levels)
            entry = Entry(f"{prefix}{key}", own, "ignored", is_default=unset)
            entries.append(_differs(entry, matters=True))
    return entries


def overridden(entry: Entry, given: Mapping[str, Any], first: Levels) -> Entry:
    """Return the entry of a higher level, ignored if the first dataset differs.

    Args:
        entry: entry of a key.
        given: values of that level.
        first: levels of the first dataset.
    """
    key = entry.key.rpartition(".")[2]
    if key not in DATASET or key not in given or _value(key, first) == given[key]:
        return entry
    return dataclasses.replace(
        entry, value=given[key], outcome="ignored", sets=(), note=_USED, matters=False
    )


def _differs(entry: Entry, *, matters: bool) -> Entry:
    key = entry.key.rpartition(".")[2]
    note = f"{key} is the same for all concepts; {_USED}"
    return dataclasses.replace(
        entry, outcome="ignored", sets=(), note=note, matters=matters
    )
