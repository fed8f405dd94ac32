"""Find the points of OneTrainer that are wrapped; say which one is gone."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable, Mapping
from typing import Any

from ..._exceptions import ConfigError

__all__ = ["TESTED", "arguments_of", "missing", "point", "wrap"]

TESTED = "OneTrainer 23df3832 of 2026-08-19"


def point(owner: Any, path: str) -> Any:
    """Follow a dotted path of attributes.

    Raises:
        ConfigError: OneTrainer has changed there.
    """
    found = owner
    for name in path.split("."):
        if not hasattr(found, name):
            raise missing(f"{_name(owner)}.{path}")
        found = getattr(found, name)
    return found


def wrap(owner: Any, name: str, around: Callable[..., Any]) -> None:
    """Replace ``owner.name`` by ``around(original, *args, **kwargs)``, in place."""
    original = point(owner, name)

    @functools.wraps(original)
    def wrapped(*args: Any, **kwargs: Any) -> Any:
        return around(original, *args, **kwargs)

    setattr(owner, name, wrapped)


def arguments_of(
    function: Callable[..., Any], args: Any, kwargs: Any, *wanted: str
) -> Mapping[str, Any]:
    """Arguments of a call by name, whatever their order is.

    Raises:
        ConfigError: the function no longer has one of the wanted names.
    """
    given = inspect.signature(function).bind(*args, **kwargs).arguments
    for name in wanted:
        if name not in given:
            raise missing(f"the argument {name} of {_name(function)}")
    return given


def _name(thing: Any) -> str:
    return getattr(thing, "__qualname__", None) or getattr(
        thing, "__name__", repr(thing)
    )


def missing(what: str) -> ConfigError:
    """The sentence on something that this OneTrainer does not have."""
    return ConfigError(
        f"This OneTrainer has no {what}, which stiefel-lora builds on; it was tested "
        f"with {TESTED}. Update stiefel-lora, or go back to that version."
    )
