"""Access to functions and classes of OneTrainer, which may be missing."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable, Mapping
from typing import Any

from ..._exceptions import ConfigError

__all__ = ["TESTED", "MissingPoint", "arguments_of", "point", "wrap"]

TESTED = "OneTrainer 23df3832 of 2026-08-19"


class MissingPoint(ConfigError):
    """Error about missing functions of OneTrainer. ``what`` lists their names."""

    def __init__(self, what: str) -> None:
        self.what = what
        super().__init__(
            f"This version of OneTrainer has no {what}, which stiefel-lora requires. "
            f"It was tested with {TESTED}. Update stiefel-lora, or use that version of "
            "OneTrainer."
        )


def point(owner: Any, path: str) -> Any:
    """Return the attribute at a dotted path.

    Raises:
        MissingPoint: If the attribute does not exist.
    """
    found = owner
    for name in path.split("."):
        if not hasattr(found, name):
            raise MissingPoint(f"{_name(owner)}.{path}")
        found = getattr(found, name)
    return found


def wrap(owner: Any, name: str, around: Callable[..., Any], *wanted: str) -> None:
    """Replace ``owner.name`` by ``around(original, *args, **kwargs)``, in place.

    Args:
        owner: module or class.
        name: name of the attribute to replace.
        around: function that is called instead.
        wanted: names of arguments that ``around`` uses.

    Raises:
        MissingPoint: If the attribute does not exist, or lacks one of the arguments.
    """
    original = point(owner, name)
    for argument in wanted:
        if argument not in inspect.signature(original).parameters:
            raise MissingPoint(f"argument {argument} of {_name(original)}")

    @functools.wraps(original)
    def wrapped(*args: Any, **kwargs: Any) -> Any:
        return around(original, *args, **kwargs)

    setattr(owner, name, wrapped)


def arguments_of(
    function: Callable[..., Any], args: Any, kwargs: Any
) -> Mapping[str, Any]:
    """Return all arguments of a call by name, including defaults."""
    bound = inspect.signature(function).bind(*args, **kwargs)
    bound.apply_defaults()
    return bound.arguments


def _name(thing: Any) -> str:
    return getattr(thing, "__qualname__", None) or getattr(
        thing, "__name__", repr(thing)
    )
