"""Limits of the nesting depth and the size of numbers in settings."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from .._exceptions import ConfigError
from .violation import SettingsError, Violation

__all__ = ["check_plain", "nested_too_deep"]

# The schema needs 4 levels. copy, json and pydantic raise RecursionError at some 300.
DEEPEST = 50
# Larger numbers do not convert to float, and from 4,300 digits on not even to text.
_LARGEST = 10**300


def check_plain(data: Mapping[str, Any]) -> None:
    """Check the nesting depth and the size of numbers in settings.

    Raises:
        ConfigError: If a value is invalid, or the data is not a mapping.
    """
    if not isinstance(data, Mapping):
        raise ConfigError(
            "A configuration must be a dictionary of keys and values, but got "
            f"{type(data).__name__}."
        )
    for key, value in data.items():
        for depth, inner in _walk(value):
            if depth > DEEPEST:
                raise SettingsError([nested_too_deep(key)])
            if isinstance(inner, int) and abs(inner) >= _LARGEST:
                problem = "integers can have at most 300 digits"
                raise SettingsError([Violation(key, problem, "Use a smaller number")])


def nested_too_deep(key: str) -> Violation:
    """Return the violation for a value that is nested too deeply."""
    return Violation(
        key,
        f"lists and objects can be nested at most {DEEPEST} levels deep",
        "The expected form of each value is shown by stiefel-lora schema",
    )


def _walk(value: Any) -> Iterator[tuple[int, Any]]:
    """Yield the depth and value of all nested values, up to ``DEEPEST``."""
    waiting = [(1, value)]
    while waiting:
        depth, inner = waiting.pop()
        yield depth, inner
        if isinstance(inner, Mapping):
            waiting.extend((depth + 1, child) for child in inner.values())
        elif isinstance(inner, list | tuple):
            waiting.extend((depth + 1, child) for child in inner)
