"""Bring what callers pass as ``params`` into torch's named parameter groups."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from torch import Tensor, nn

from .._exceptions import OptionError

__all__ = ["Source", "named_groups"]

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
