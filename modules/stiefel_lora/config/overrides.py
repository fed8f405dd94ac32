"""Parser of ``--set KEY=VALUE``, which changes a setting.

KEY is a dotted key. Numbers in it are list indices that start at zero, such as in
``concepts.0.repeats=2``. VALUE is parsed as JSON if it is valid JSON (``0.1``,
``true``, ``null``, ``"42"``, ``["a", "b"]``), and is text otherwise. Settings are
changed in the given order. ``optimizer.name=...`` selects an optimizer with its default
options.
"""

from __future__ import annotations

import copy
import json
from collections.abc import Iterable
from typing import Any

from .._exceptions import ConfigError
from .concept import spell_out_concepts
from .epochs import newest_length
from .plain import check_plain, nested_too_deep
from .violation import SettingsError, Violation

__all__ = ["apply_overrides", "parse_override"]

CONCEPT_LISTS = ("concepts", "validation_concepts")


def parse_override(text: str) -> tuple[list[str], Any]:
    """Split ``a.b=value`` into the parts of the key and the value.

    >>> parse_override("optimizer.momentum=0.8")
    (['optimizer', 'momentum'], 0.8)

    Raises:
        ConfigError: If there is no equals sign, a part of the key is empty, or the
            value is nested too deeply.
    """
    key, equals, value = text.partition("=")
    keys = key.strip().split(".")
    if not equals or not all(keys):
        raise ConfigError(
            f"--set {text!r} must have the form KEY=VALUE, for example lora_rank=32."
        )
    try:
        found = json.loads(value)
    except RecursionError:
        raise SettingsError([nested_too_deep(key.strip())]) from None
    # Not JSON, so it is a text, which shells pass without quotes.
    except ValueError:
        return keys, value
    check_plain({key.strip(): found})
    return keys, found


def apply_overrides(
    data: dict[str, Any], overrides: Iterable[str], *, default_optimizer: str
) -> dict[str, Any]:
    """Return a copy of the settings with all overrides applied in order.

    Raises:
        ConfigError: If an override cannot be parsed, or its key does not exist.
    """
    overrides = list(overrides)
    parsed = map(parse_override, overrides)
    data = newest_length(
        copy.deepcopy(data), {keys[0]: value for keys, value in parsed}
    )
    for text in overrides:
        keys, value = parse_override(text)
        # Another optimizer has other options, so those of the former one are dropped.
        if keys == ["optimizer", "name"]:
            data["optimizer"] = {"name": value}
            continue
        if keys[0] == "optimizer" and len(keys) > 1:
            data.setdefault("optimizer", {"name": default_optimizer})
        if keys[0] in CONCEPT_LISTS and keys[0] in data:
            data[keys[0]] = spell_out_concepts(data[keys[0]])
        _put(data, keys, value)
    return data


def _put(data: dict[str, Any], keys: list[str], value: Any) -> None:
    container: Any = data
    for depth, key in enumerate(keys[:-1]):
        place = _place(container, keys, depth)
        if isinstance(container, dict) and place not in container:
            # A list cannot be started at an index: _place rejects the next part.
            container[key] = [] if keys[depth + 1].isdecimal() else {}
        container = container[place]
    container[_place(container, keys, len(keys) - 1)] = value


def _place(container: Any, keys: list[str], depth: int) -> Any:
    """Convert part ``depth`` of a key to a dictionary key or list index."""
    whole, parent, key = ".".join(keys), ".".join(keys[:depth]), keys[depth]
    if isinstance(container, dict):
        return key
    if not isinstance(container, list):
        raise SettingsError(
            [Violation(whole, f"{parent} is a single value and has no key {key}")]
        )
    if key.isdecimal() and int(key) < len(container):
        return int(key)
    entries = "1 entry" if len(container) == 1 else f"{len(container)} entries"
    problem = f"{parent} has {entries}, but the index is {key}. The first index is 0"
    raise SettingsError([Violation(whole, problem)])
