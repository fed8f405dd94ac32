"""Bring what callers pass as ``params`` into torch's named parameter groups."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from torch import Tensor, nn

from .._exceptions import OptionError

__all__ = [
    "Source",
    "is_magnitude",
    "named_groups",
    "names_of",
    "spare_magnitudes",
]

# Ours comes first: torch refuses its own key where hosts merge groups.
_NAME_LISTS = ("lora_param_names", "param_names")

# peft's name, and that of LyCORIS and OneTrainer.
_MAGNITUDE = re.compile(r"lora_magnitude_vector|dora_scale")

Source = nn.Module | Iterable[Any]


def named_groups(source: Source) -> list[dict[str, Any]]:
    """Return parameter groups as dicts with ``params`` a list of tensors.

    Accepts a module (its parameters that require gradients, with names), tensors,
    ``(name, tensor)`` pairs, or groups of either; a group's ``params`` may be any
    iterable, dict views included. Names end up under torch's own ``param_names`` key;
    a group of unnamed tensors has none.

    Raises:
        OptionError: nothing to optimise, or names for some parameters only.
    """
    if isinstance(source, nn.Module):
        source = [(n, p) for n, p in source.named_parameters() if p.requires_grad]
    entries: list[Any] = [source] if isinstance(source, Tensor) else list(source)
    if not entries:
        raise OptionError(
            "The optimizer was given no parameters; pass a model with trainable LoRA "
            "layers, its named_parameters() or a list of parameter groups."
        )
    if isinstance(entries[0], Mapping):
        return [_as_group(entry) for entry in entries]
    return [_as_group({"params": entries})]


def _as_group(entry: Mapping[str, Any]) -> dict[str, Any]:
    group = dict(entry)
    given = group["params"]
    members = [given] if isinstance(given, Tensor) else list(given)
    named = [member for member in members if isinstance(member, tuple)]
    if not named:
        group["params"] = members
        return group
    if len(named) != len(members):
        raise OptionError(
            f"{len(named)} of {len(members)} parameters of a group have names; "
            "name all of them or none."
        )
    group["params"] = [tensor for _, tensor in members]
    group["param_names"] = [name for name, _ in members]
    return group


def names_of(group: Mapping[str, Any]) -> list[str] | None:
    """Names from a group's lists or its tensors' ``original_name``, if all have one."""
    for key in _NAME_LISTS:
        if group.get(key):
            return list(group[key])
    found = [getattr(p, "original_name", None) for p in group["params"]]
    texts = [name for name in found if isinstance(name, str)]
    return texts if len(texts) == len(found) else None


def is_magnitude(name: str, tensor: Tensor) -> bool:
    """Whether a parameter is the magnitude of a DoRA, by its name or adv_optm's tag."""
    tagged = getattr(tensor, "_is_dora_scale", False)
    return bool(tagged or _MAGNITUDE.search(name))


def spare_magnitudes(groups: Iterable[dict[str, Any]]) -> list[dict[str, Any]]:
    """Give magnitudes groups of their own without weight decay, where there are any."""
    result = []
    for group in groups:
        params = group["params"]
        names = names_of(group) or [""] * len(params)
        found = [is_magnitude(n, p) for n, p in zip(names, params, strict=True)]
        for wanted in (False, True):
            if wanted in found:
                part = _part(group, [mark is wanted for mark in found])
                result.append(part | ({"weight_decay": 0.0} if wanted else {}))
    return result


def _part(group: dict[str, Any], chosen: Sequence[bool]) -> dict[str, Any]:
    lists = {key: group[key] for key in ("params", *_NAME_LISTS) if key in group}
    return group | {
        key: [item for item, take in zip(items, chosen, strict=True) if take]
        for key, items in lists.items()
    }
