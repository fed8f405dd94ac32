"""Walk over all keys of a source. Every key gets an entry in the report."""

from __future__ import annotations

import difflib
from collections.abc import Collection, Iterator, Mapping
from typing import Any

from .import_report import Entry
from .key_rules import Result, Rules, Scope, left

__all__ = ["UNKNOWN", "apply", "leaves", "walk"]

UNKNOWN = "unknown key"
_UNSET: tuple[Any, ...] = (None, "", {}, [])
_UNREADABLE = "this value is not valid for the key"


def walk(
    scope: Scope,
    rules: Rules,
    *,
    prefix: str = "",
    target: str = "",
    none_counts: Collection[str] = (),
    with_defaults: bool = True,
) -> tuple[list[Entry], dict[str, Any]]:
    """Apply a rule to every key, and to the defaults of keys that are not set.

    Args:
        scope: keys and defaults.
        rules: rules by dotted key. A rule for a key includes everything below it.
        prefix: prefix of the keys in the report.
        target: prefix of the settings in the report.
        none_counts: keys for which null is a value, and not the default.
        with_defaults: whether to apply the defaults.

    Returns:
        An entry for each key, and the settings by dotted key.
    """
    entries: list[Entry] = []
    data: dict[str, Any] = {}
    for key, value in leaves(scope.source, rules):
        if value in _UNSET and key not in none_counts:
            is_known = key in rules or any(name.startswith(f"{key}.") for name in rules)
            result = left("is not set" if is_known else UNKNOWN, matters=False)
        else:
            result = apply(rules, scope, key, value)
        entries.append(_entry(prefix, target, key, value, result))
        data |= result.sets
    for key, value in scope.defaults.items() if with_defaults else ():
        if (
            key in rules
            and not scope.has(key)
            and not _is_none(scope, key, none_counts)
        ):
            result = apply(rules, scope, key, value)
            if result.sets or result.matters:
                entries.append(_entry(prefix, target, key, value, result, True))
            # Keys of the source come first.
            data = {**result.sets, **data}
    return entries, data


def apply(rules: Rules, scope: Scope, key: str, value: Any) -> Result:
    """Apply the rule of a key. Unknown keys and invalid values are ignored."""
    rule = rules.get(key)
    if rule is None:
        return left(UNKNOWN + _nearest(key, rules))
    try:
        return rule(scope, value)
    except (ArithmeticError, AttributeError, LookupError, TypeError, ValueError):
        # A value of another type than the other program writes.
        return left(_UNREADABLE)


def _nearest(key: str, rules: Rules) -> str:
    """Return a hint at the known key that an unknown one was meant to be."""
    plain = key.rstrip("0123456789")
    near = difflib.get_close_matches(plain, list(rules), n=1, cutoff=0.85)
    return f". A known one is {near[0]}" if near else ""


def leaves(
    data: Mapping[Any, Any], rules: Rules, above: str = ""
) -> Iterator[tuple[str, Any]]:
    """Yield dotted keys and values, down to keys with a rule."""
    for name, value in data.items():
        key = f"{above}.{name}" if above else str(name)
        if key not in rules and isinstance(value, Mapping) and value:
            yield from leaves(value, rules, key)
        else:
            yield key, value


def _is_none(scope: Scope, key: str, none_counts: Collection[str]) -> bool:
    return key in none_counts and key in scope.source


def _entry(
    prefix: str,
    target: str,
    key: str,
    value: Any,
    result: Result,
    is_default: bool = False,
) -> Entry:
    sets = tuple((f"{target}{name}", inner) for name, inner in result.sets.items())
    return Entry(
        f"{prefix}{key}",
        value,
        result.outcome,
        sets,
        result.note,
        result.matters,
        is_default,
    )
