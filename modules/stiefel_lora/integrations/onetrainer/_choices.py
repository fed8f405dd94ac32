"""Our methods among OneTrainer's optimizers: dropdown, configuration, defaults."""

from __future__ import annotations

import difflib
from collections.abc import Mapping
from types import ModuleType
from typing import Any

from ...methods import CATALOGUE, Method, Option
from ._console import say
from ._imports import finish_late
from ._points import point, wrap

__all__ = [
    "OFFERED",
    "add_defaults",
    "add_to_config",
    "add_to_dropdown",
    "key_of",
    "method_of",
    "refused_name",
]

# OneTrainer has its own, by these names: ADAMW and ADAMW_8BIT.
OFFERED = {
    entry.label: entry
    for name, entry in CATALOGUE.items()
    if name not in ("adamw", "adamw_8bit")
}

_REFUSED = "_stiefel_lora_refusal"

# What pull request 1333 called it.
_ALIASES = {"Stiefel_LoRA": "stiefel_lora"}


def method_of(config: Any) -> Method | None:
    """The method that a TrainConfig names; None for an optimizer of the host."""
    return OFFERED.get(str(config.optimizer.optimizer))


def key_of(method: Method, option: Option) -> str:
    """The key of an option in OneTrainer's configuration, where all share one space."""
    return f"{method.name}_{option.name}"


def add_to_dropdown(module: ModuleType) -> None:
    """Add a member for every method; its name and its value are the label."""
    members = point(module, "Optimizer")
    for label, entry in OFFERED.items():
        member = _member(members, label)
        members._member_names_.append(label)
        aliases = [alias for alias, name in _ALIASES.items() if name == entry.name]
        for name in (label, entry.name, *aliases):
            members._member_map_[name] = member
            members._value2member_map_[name] = member
        # What unpickling in another process looks for.
        type.__setattr__(members, label, member)

    def supports_fused_back_pass(original: Any, self: Any) -> bool:
        method = OFFERED.get(str(self))
        return original(self) if method is None else method.separable

    wrap(members, "supports_fused_back_pass", supports_fused_back_pass)


def _member(members: Any, label: str) -> Any:
    member = object.__new__(members)
    member._name_ = member._value_ = label
    member.__objclass__ = members
    member._sort_order_ = len(members._member_names_)
    return member


def add_to_config(module: ModuleType) -> None:
    """Add a field for every option, and note optimizers that nobody knows."""
    fields = [
        (key_of(entry, option), option.default, option.type, True)
        for entry in OFFERED.values()
        for option in entry.options
    ]

    def with_fields(
        original: Any, self: Any, data: list, *rest: Any, **more: Any
    ) -> None:
        original(self, [*data, *fields], *rest, **more)

    def with_known_optimizer(
        original: Any, self: Any, data: Mapping[str, Any], *rest: Any, **more: Any
    ) -> Any:
        # Every way to a training leads through here.
        finish_late()
        if "optimizer" in data:
            refusal = _refusal(point(module, "Optimizer"), data["optimizer"])
            setattr(self, _REFUSED, refusal)
            if refusal:
                say(refusal)
        return original(self, data, *rest, **more)

    settings = point(module, "TrainOptimizerConfig")
    wrap(settings, "__init__", with_fields)
    wrap(settings, "from_dict", with_known_optimizer)
    wrap(point(module, "TrainConfig"), "from_dict", _with_switch)


def _with_switch(
    original: Any, self: Any, data: Mapping[str, Any], *rest: Any, **more: Any
) -> Any:
    """Read the pull request's switch ``use_stiefel``, which forced its optimizer."""
    if data.get("use_stiefel"):
        chosen = {**data.get("optimizer", {}), "optimizer": "Stiefel LoRA"}
        data = {**data, "optimizer": chosen}
    return original(self, data, *rest, **more)


def refused_name(settings: Any) -> str | None:
    """The sentence on the optimizer that a loaded config names and nobody knows.

    The host takes its default for it and goes on, so that the rest of a config is not
    lost; training with the default is what must not happen.
    """
    return getattr(settings, _REFUSED, None)


def _refusal(members: Any, name: object) -> str | None:
    known = members.__members__
    if not isinstance(name, str) or name in known:
        return None
    shown = [str(member) for member in members]
    near = difflib.get_close_matches(name, shown, n=1, cutoff=0.5)
    meant = f"did you mean {near[0]}?" if near else "choose one of the dropdown."
    return f"There is no optimizer {name!r}; {meant}"


def add_defaults(module: ModuleType) -> None:
    """Add the defaults, whose keys decide which fields the window shows."""
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
