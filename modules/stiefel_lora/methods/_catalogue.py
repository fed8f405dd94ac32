"""Catalogue of all methods, including those registered by plugins."""

from __future__ import annotations

import dataclasses
import difflib
from collections.abc import Mapping
from types import MappingProxyType

from .._exceptions import OptionError
from ._baselines import ADAMW, ADAMW_8BIT, LORA_PLUS, SCALED_ADAMW
from ._factor_decay import no_decay_of
from ._geometric import LORA_RITE, RIEMANNION, STELLA
from ._packaged import PACKAGED
from ._spectral import LORA_MUON, LORA_TSD, POLORA
from ._stiefel import STIEFEL_LORA
from ._types import Method
from ._whitened import WHITENED_LORA

__all__ = [
    "BUILT_IN",
    "CATALOGUE",
    "CUSTOM",
    "add_method",
    "check_options",
    "find_record",
    "name_plugin",
    "remove_method",
    "suggestion",
]

CATALOGUE: dict[str, Method] = {
    entry.name: entry
    for entry in (
        STIEFEL_LORA,
        STELLA,
        LORA_RITE,
        RIEMANNION,
        LORA_MUON,
        POLORA,
        LORA_TSD,
        WHITENED_LORA,
        ADAMW,
        LORA_PLUS,
        SCALED_ADAMW,
        ADAMW_8BIT,
    )
}

BUILT_IN = frozenset(CATALOGUE)

CUSTOM = "custom"
"""Value of ``optimizer.name`` for an optimizer class of another package."""


def find_record(name: str) -> Method | None:
    """Return the record of a method or of an optimizer of another package, or None."""
    return CATALOGUE.get(name) or PACKAGED.get(name)


def add_method(entry: Method) -> None:
    """Add a method. An existing record of the same class is replaced.

    Raises:
        OptionError: If another method has the same name or label.
    """
    for other in (*CATALOGUE.values(), *PACKAGED.values()):
        if other.target == entry.target and _is_registered(other.name):
            continue
        same = "name" if other.name == entry.name else "label"
        if same == "name" or other.label.casefold() == entry.label.casefold():
            raise _clash(entry, same, other)
    if entry.name == CUSTOM:
        raise OptionError(
            f"name: {CUSTOM!r} is reserved for custom optimizer classes. Use "
            f"another name or label for {_class_of(entry)}."
        )
    for name, other in list(CATALOGUE.items()):
        if other.target == entry.target:
            del CATALOGUE[name]
    CATALOGUE[entry.name] = entry


def _is_registered(name: str) -> bool:
    return name not in BUILT_IN and name not in PACKAGED


def remove_method(name: str) -> None:
    """Remove a registered method. Built-in methods are not removed."""
    if name not in BUILT_IN:
        CATALOGUE.pop(name, None)


def name_plugin(name: str, plugin: str) -> None:
    """Store the entry of ``plugins`` that loads a registered method."""
    if CATALOGUE[name].plugin != plugin:
        CATALOGUE[name] = dataclasses.replace(CATALOGUE[name], plugin=plugin)


def check_options(
    entry: Method,
    options: Mapping[str, object],
    inherited: Mapping[str, object] = MappingProxyType({}),
) -> None:
    """Check names, types and bounds of the options of a method, and their dependencies.

    Args:
        entry: catalogue entry of the method.
        options: options to check.
        inherited: values of options that are not in ``options``. Defaults are used if
            it is None.

    Raises:
        OptionError: If an option is unknown or out of bounds, or has no effect because
            of other options.
    """
    known = {option.name: option for option in entry.options}
    for name, value in options.items():
        if name not in known:
            reason = no_decay_of(entry, name)
            if reason is not None:
                raise OptionError(
                    f"{name}: is not supported by {entry.name}, because {reason}."
                )
            raise OptionError(
                f"{entry.name} has no option {name!r}. {suggestion(name, list(known))}"
            )
        violation = known[name].violation(value)
        if violation:
            raise OptionError(f"{entry.name}: {name}={value!r} {violation}.")
    values = entry.defaults() | dict(inherited) | dict(options)
    for option, name, value in entry.idle(values):
        if option.name in options:
            raise OptionError(
                f"{entry.name}: {option.name}={options[option.name]!r} has no "
                f"effect if {name} is {values[name]!r}. Remove it, or set "
                f"{name}={value!r}."
            )


def suggestion(name: str, known: list[str]) -> str:
    """Return the end of a message about an unknown name: similar or all names."""
    near = difflib.get_close_matches(name, known, n=1)
    if near:
        return f"Did you mean {near[0]!r}?"
    return f"Available: {', '.join(known)}." if known else "It has no options."


def _clash(entry: Method, same: str, other: Method) -> OptionError:
    registered = _is_registered(other.name)
    kind = "optimizer of a plugin" if registered else "built-in optimizer"
    return OptionError(
        f"{same}: {getattr(entry, same)!r} is already used by the {kind} "
        f"{other.label} ({other.plugin or other.target}). Use another one for "
        f"{_class_of(entry)}."
    )


def _class_of(entry: Method) -> str:
    return entry.target.partition(":")[2]
