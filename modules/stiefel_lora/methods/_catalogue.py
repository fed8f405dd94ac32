"""All methods by name: the built-in ones, and those that plug-ins register."""

from __future__ import annotations

import dataclasses
import difflib
from collections.abc import Mapping
from types import MappingProxyType

from .._exceptions import OptionError
from ._baselines import ADAMW, ADAMW_8BIT, LORA_PLUS, SCALED_ADAMW
from ._geometric import LORA_RITE, RIEMANNION, STELLA
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
"""Name of a custom optimizer class in a configuration."""


def add_method(entry: Method) -> None:
    """Add the record of a method; one for the same class is replaced.

    Raises:
        OptionError: another method has its name or its label.
    """
    for other in CATALOGUE.values():
        if other.target == entry.target and other.name not in BUILT_IN:
            continue
        same = "name" if other.name == entry.name else "label"
        if same == "name" or other.label.casefold() == entry.label.casefold():
            raise _clash(entry, same, other)
    if entry.name == CUSTOM:
        raise OptionError(
            f"name: {CUSTOM!r} is reserved for custom optimizer classes. "
            f"Give {_class_of(entry)} another name or label."
        )
    for name, other in list(CATALOGUE.items()):
        if other.target == entry.target:
            del CATALOGUE[name]
    CATALOGUE[entry.name] = entry


def remove_method(name: str) -> None:
    """Remove a registered method; built-in ones stay."""
    if name not in BUILT_IN:
        CATALOGUE.pop(name, None)


def name_plugin(name: str, plugin: str) -> None:
    """Record the entry of ``plugins`` that loads a registered method."""
    if CATALOGUE[name].plugin != plugin:
        CATALOGUE[name] = dataclasses.replace(CATALOGUE[name], plugin=plugin)


def check_options(
    entry: Method,
    options: Mapping[str, object],
    inherited: Mapping[str, object] = MappingProxyType({}),
) -> None:
    """Check options of a method: names, types, bounds and dependencies.

    Args:
        entry: the method.
        options: the options to check.
        inherited: values of options that are not given here; otherwise, defaults.

    Raises:
        OptionError: unknown name (the nearest one is suggested), value out of bounds,
            or an option that has no effect with the other ones.
    """
    known = {option.name: option for option in entry.options}
    for name, value in options.items():
        if name not in known:
            raise OptionError(
                f"{entry.name} has no option {name!r}; {suggestion(name, list(known))}"
            )
        violation = known[name].violation(value)
        if violation:
            raise OptionError(f"{entry.name}: {name}={value!r} {violation}.")
    values = entry.defaults() | dict(inherited) | dict(options)
    for option, name, value in entry.idle(values):
        if option.name in options:
            raise OptionError(
                f"{entry.name}: {option.name}={options[option.name]!r} has no effect "
                f"with {name}={values[name]!r}. Remove it, or set {name}={value!r}."
            )


def suggestion(name: str, known: list[str]) -> str:
    """End of a message about an unknown name: the nearest name, or all of them."""
    near = difflib.get_close_matches(name, known, n=1)
    if near:
        return f"did you mean {near[0]!r}?"
    return f"available: {', '.join(known)}." if known else "it has none."


def _clash(entry: Method, same: str, other: Method) -> OptionError:
    kind = "built-in optimizer" if other.name in BUILT_IN else "optimizer of a plug-in"
    return OptionError(
        f"{same}: {getattr(entry, same)!r} is the {same} of the {kind} {other.label} "
        f"({other.plugin or other.target}). Give {_class_of(entry)} another one."
    )


def _class_of(entry: Method) -> str:
    return entry.target.partition(":")[2]
