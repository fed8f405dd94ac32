"""Unique run names for jobs, built from the settings that differ."""

from __future__ import annotations

import hashlib
import re
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from ..config.dump import flat
from .setting_differences import different_keys

__all__ = ["unique_names"]

LONGEST = 100
_LONGEST_VALUE = 40
_UNSAFE = re.compile(r"[^\w.+-]+")


def unique_names(
    names: Sequence[str],
    configs: Sequence[Mapping[str, Any]],
    swept: Sequence[Iterable[str]],
) -> list[str]:
    """Give every job a unique name.

    The values of swept settings are appended to equal names, and other settings that
    differ if necessary, for example ``cats-lora_rank_8-adamw``.

    Args:
        names: run names of the jobs.
        configs: settings of each job.
        swept: dotted keys of the sweeps, for each job.
    """
    groups: defaultdict[tuple[str, str], list[int]] = defaultdict(list)
    for place, name in enumerate(names):
        groups[_taken(configs[place], name)].append(place)
    made = {taken for taken, places in groups.items() if len(places) == 1}
    result = list(names)
    for places in groups.values():
        if len(places) > 1:
            _tell_apart(places, result, configs, swept, made)
    return result


def _taken(config: Mapping[str, Any], name: str) -> tuple[str, str]:
    # Some file systems are case-insensitive.
    return config["output_dir"], name.casefold()


def _tell_apart(
    places: Sequence[int],
    names: list[str],
    configs: Sequence[Mapping[str, Any]],
    swept: Sequence[Iterable[str]],
    made: set[tuple[str, str]],
) -> None:
    differing = different_keys([configs[place] for place in places])
    first = dict.fromkeys(key for place in places for key in swept[place])
    keys = [key for key in first if key in differing]
    endings = [_ending(keys, flat(configs[place])) for place in places]
    if len(set(endings)) < len(endings):
        keys += [key for key in differing if key not in keys]
        endings = [_ending(keys, flat(configs[place])) for place in places]
    for place, ending in zip(places, endings, strict=True):
        name = _short(names[place] + ending)
        names[place] = _free(name, configs[place], made)


def _ending(keys: Iterable[str], values: Mapping[str, Any]) -> str:
    return "".join(f"-{_word(key, values[key])}" for key in keys if key in values)


def _word(key: str, value: Any) -> str:
    text = str(value)
    if isinstance(value, str):
        text = value.replace("\\", "/").rstrip("/").rpartition("/")[2]
    text = _UNSAFE.sub("_", text).strip("_.")[:_LONGEST_VALUE]
    # The name of an optimizer is clear without its key.
    return text if key == "optimizer.name" else f"{key.rpartition('.')[2]}_{text}"


def _short(name: str) -> str:
    if len(name) <= LONGEST:
        return name
    digest = hashlib.sha256(name.encode()).hexdigest()[:8]
    return f"{name[: LONGEST - 9].rstrip(' .-')}-{digest}"


def _free(name: str, config: Mapping[str, Any], made: set[tuple[str, str]]) -> str:
    candidate, number = name, 1
    while _taken(config, candidate) in made:
        number += 1
        candidate = f"{name[: LONGEST - 4]}-{number}"
    made.add(_taken(config, candidate))
    return candidate
