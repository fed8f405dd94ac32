"""Rules for single keys of other programs: take, translate or ignore."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Collection, Mapping
from typing import Any

from ..foreign import reasons as why
from .import_report import Outcome

__all__ = [
    "HARMLESS",
    "Result",
    "Rule",
    "Rules",
    "Scope",
    "dropout",
    "ignore",
    "is_one_of",
    "left",
    "mapped",
    "not_for_flux",
    "only_for",
    "renamed",
    "take",
    "took",
    "turned",
    "without_counterpart",
]

_UNSET: tuple[Any, ...] = (None, "", [], {})
_OFF: tuple[Any, ...] = (False, 0, "0")

HARMLESS = frozenset(
    {
        why.AT_START,
        why.CACHE,
        why.CHECKPOINTS,
        why.CLOUD,
        why.DEVICES,
        why.LOADER,
        why.LOGS,
        why.METADATA,
        why.OFFLOADING,
        why.SAMPLER,
        why.SNAPSHOTS,
    }
)
"""Reasons of options that do not change what is trained."""


@dataclasses.dataclass
class Scope:
    """A mapping of the source, while its keys are read.

    Attributes:
        source: keys and values, without those that are not set.
        defaults: defaults of the other program.
        family: family of the base model.
        parent: mapping that contains this one.
    """

    source: Mapping[str, Any]
    defaults: Mapping[str, Any]
    family: str
    parent: Scope | None = None

    def has(self, key: str) -> bool:
        """Return whether the source sets a key."""
        return self._find(key) is not None

    def get(self, key: str, default: Any = None) -> Any:
        """Return the value of a dotted key, or the default of the other program."""
        found = self._find(key)
        return self.defaults.get(key, default) if found is None else found

    def _find(self, key: str) -> Any:
        found: Any = self.source
        for part in key.split("."):
            if not isinstance(found, Mapping):
                return None
            found = found.get(part)
        return None if found == "" else found


@dataclasses.dataclass(frozen=True)
class Result:
    """Outcome of a key, and its settings."""

    outcome: Outcome
    sets: dict[str, Any] = dataclasses.field(default_factory=dict)
    note: str = ""
    matters: bool = False


Rule = Callable[[Scope, Any], Result]
Rules = Mapping[str, Rule]


def took(key: str, value: Any, note: str = "") -> Result:
    """Return the result of an unchanged value."""
    return Result("taken", {key: value}, note)


def turned(
    note: str, sets: Mapping[str, Any] | None = None, *, matters: bool = False
) -> Result:
    """Return the result of a value with another form."""
    return Result("translated", dict(sets or {}), note, matters)


def left(note: str, *, matters: bool = True) -> Result:
    """Return the result of a value that is not used."""
    return Result("ignored", {}, note, matters)


def only_for(family: str, name: str, rule: Rule) -> Rule:
    """Return a rule for a setting that only one family has."""

    def changed(scope: Scope, value: Any) -> Result:
        if scope.family != family:
            return left(f"is only used for {name}", matters=False)
        return rule(scope, value)

    return changed


def not_for_flux(rule: Rule) -> Rule:
    """Return a rule for an option that the other program does not use for FLUX."""

    def changed(scope: Scope, value: Any) -> Result:
        if scope.family == "flux":
            return left("is not used for FLUX", matters=False)
        return rule(scope, value)

    return changed


def take(key: str, kind: type) -> Rule:
    """Return a rule for a setting with the same meaning."""

    def rule(scope: Scope, value: Any) -> Result:
        found = _as(kind, value)
        return took(key, found) if found == value else turned("", {key: found})

    return rule


def _as(kind: type, value: Any) -> Any:
    if kind is bool:
        if value in (True, False):
            return bool(value)
        return {"true": True, "false": False}[str(value).lower()]
    if isinstance(value, bool) or not isinstance(value, int | float | str):
        raise ValueError
    if kind is int:
        if float(value) % 1:
            raise ValueError
        return int(float(value))
    return kind(value)


def renamed(rule: Rule, name: str) -> Rule:
    """Return a rule whose settings have a prefix, such as ``optimizer``."""

    def changed(scope: Scope, value: Any) -> Result:
        found = rule(scope, value)
        sets = {f"{name}.{key}": inner for key, inner in found.sets.items()}
        return dataclasses.replace(found, sets=sets)

    return changed


def dropout(key: str, *others: str) -> Rule:
    """Return a rule for dropout of the LoRA, which some ``others`` exclude."""

    def rule(scope: Scope, value: Any) -> Result:
        if not float(value):
            return left("has no effect with this value", matters=False)
        for other in others:
            if scope.get(other):
                return left(f"is not supported together with {other}")
        return took(key, float(value))

    return rule


def mapped(key: str, values: Mapping[Any, Any], lost: str) -> Rule:
    """Return a rule for a setting whose values have other names."""

    def rule(scope: Scope, value: Any) -> Result:
        name = value.lower() if isinstance(value, str) else value
        if name not in values:
            return left(lost)
        found = values[name]
        return took(key, found) if found == value else turned("", {key: found})

    return rule


def is_one_of(value: Any, values: Collection[Any]) -> bool:
    """Return whether a value is one of several, of which 1 is not true.

    >>> is_one_of(True, (1, 1.0)), is_one_of(1.0, (1,)), is_one_of(False, (0,))
    (False, True, False)
    """
    flag = isinstance(value, bool)
    return any(value == each and flag == isinstance(each, bool) for each in values)


def ignore(
    reason: str, neutral: Collection[Any] = _OFF, *, matters: bool | None = None
) -> Rule:
    """Return a rule for an option that is not supported.

    Args:
        reason: why, to follow "because".
        neutral: values with which the option has no effect, such as the default of the
            other program. By default, false and 0.
        matters: whether other values change training. By default, this depends on
            ``HARMLESS``.
    """
    changes = reason not in HARMLESS if matters is None else matters
    off = (*_UNSET, *neutral)

    def rule(scope: Scope, value: Any) -> Result:
        if is_one_of(value, off):
            return left("has no effect with this value", matters=False)
        return left(reason, matters=changes)

    return rule


def without_counterpart(
    table: Mapping[str, str], but: Collection[str] = ()
) -> dict[str, Rule]:
    """Return the rules of a table of ``config.foreign``: reason and option names.

    Args:
        table: names, separated by spaces, by reason.
        but: names to leave out.
    """
    return {
        name: ignore(reason)
        for reason, names in table.items()
        for name in names.split()
        if name not in but
    }
