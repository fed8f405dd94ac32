"""Add the methods of this package to the optimizers of OneTrainer."""

from __future__ import annotations

from collections.abc import Mapping
from types import ModuleType
from typing import Any

from ...methods import CATALOGUE, Method, Option
from ._points import point, wrap

__all__ = [
    "OFFERED",
    "add_defaults",
    "add_fused_back_pass",
    "add_switch",
    "add_to_config",
    "add_to_dropdown",
    "key_of",
    "method_named",
    "method_of",
    "names",
    "needs_fused_back_pass",
    "offer_methods",
]

OFFERED: dict[str, Method] = {}
"""Methods in the drop-down list, by label."""

# OneTrainer has its own ADAMW and ADAMW_8BIT.
_ITS_OWN = ("adamw", "adamw_8bit")

# Name in OneTrainer's pull request 1333.
_ALIASES = {"Stiefel_LoRA": "stiefel_lora"}
_BY_NAME: dict[str, Method] = {}


def offer_methods() -> None:
    """Add every method of the catalogue, including loaded plugins."""
    entries = [entry for name, entry in CATALOGUE.items() if name not in _ITS_OWN]
    for known, key in ((OFFERED, "label"), (_BY_NAME, "name")):
        known.clear()
        known.update({getattr(entry, key): entry for entry in entries})


offer_methods()


def method_of(config: Any) -> Method | None:
    """Return the method of a TrainConfig, or None for an optimizer of OneTrainer."""
    settings = getattr(config, "optimizer", None)
    return OFFERED.get(str(getattr(settings, "optimizer", None)))


def names() -> tuple[str, ...]:
    """Return all names and aliases of the methods in configurations."""
    return (*OFFERED, *_BY_NAME, *_ALIASES)


def method_named(name: object) -> Method | None:
    """Find a method by label, name or alias."""
    if not isinstance(name, str):
        return None
    return OFFERED.get(name) or _BY_NAME.get(_ALIASES.get(name, name))


def key_of(method: Method, option: Option) -> str:
    """Return the key of an option in a configuration of OneTrainer."""
    return f"{method.name}_{option.name}"


def add_to_dropdown(module: ModuleType) -> None:
    """Add an enum member for every method to the drop-down list."""
    members = point(module, "Optimizer")
    for label, entry in OFFERED.items():
        member = _member(members, label)
        members._member_names_.append(label)
        aliases = [alias for alias, name in _ALIASES.items() if name == entry.name]
        for name in (label, entry.name, *aliases):
            members._member_map_[name] = member
            members._value2member_map_[name] = member
        # Needed for unpickling in another process.
        type.__setattr__(members, label, member)


def add_fused_back_pass(module: ModuleType) -> None:
    """Enable the fused back pass for the methods that support it."""

    def supports_fused_back_pass(original: Any, self: Any) -> bool:
        method = OFFERED.get(str(self))
        return original(self) if method is None else method.separable

    members = point(module, "Optimizer")
    wrap(members, "supports_fused_back_pass", supports_fused_back_pass)


def needs_fused_back_pass(method: Method, config: Any) -> bool:
    """Return whether the fused back pass is enabled."""
    settings = getattr(config, "optimizer", None)
    return bool(getattr(settings, "fused_back_pass", False))


def _member(members: Any, label: str) -> Any:
    member = object.__new__(members)
    member._name_ = member._value_ = label
    member.__objclass__ = members
    member._sort_order_ = len(members._member_names_)
    return member


def add_to_config(module: ModuleType) -> None:
    """Add a configuration field for every option."""
    fields = [
        (key_of(entry, option), option.default, option.type, True)
        for entry in OFFERED.values()
        for option in entry.options
    ]

    def with_fields(
        original: Any, self: Any, data: list, *rest: Any, **more: Any
    ) -> None:
        original(self, [*data, *fields], *rest, **more)

    wrap(point(module, "TrainOptimizerConfig"), "__init__", with_fields)


def add_switch(module: ModuleType) -> None:
    """Support the setting ``use_stiefel`` of OneTrainer pull request 1333."""
    wrap(point(module, "TrainConfig"), "from_dict", _with_switch)


def _with_switch(
    original: Any, self: Any, data: Mapping[str, Any], *rest: Any, **more: Any
) -> Any:
    if data.get("use_stiefel"):
        settings = data.get("optimizer", {})
        # Before version 1 of its configurations, the optimizer was only a name.
        chosen = "Stiefel LoRA"
        if isinstance(settings, Mapping):
            chosen = {**settings, "optimizer": chosen}
        data = {**data, "optimizer": chosen}
    return original(self, data, *rest, **more)


def add_defaults(module: ModuleType) -> None:
    """Add the default options, which determine the fields of the parameters window."""
    members, table = (
        point(module, "Optimizer"),
        point(module, "OPTIMIZER_DEFAULT_PARAMETERS"),
    )
    for label, entry in OFFERED.items():
        table[members[label]] = {
            key_of(entry, option): option.default for option in entry.options
        }
        if entry.separable:
            table[members[label]]["fused_back_pass"] = False
