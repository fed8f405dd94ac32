"""Checks and conversion of a loaded optimizer state."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from types import MappingProxyType
from typing import Any

import torch
from torch import Tensor

from ..._exceptions import CheckpointError
from ...methods import BUILT_IN, CATALOGUE, Method
from ..groups import names_of
from ..rule import StateShape
from .batching import size_of

__all__ = ["check_shapes", "check_state", "fill_options", "keep_dtypes"]

# Shaped like the parameter in every method; others may be r x r or single numbers.
_LIKE_PARAMETER = ("exp_avg", "exp_avg_sq", "master", "state1", "state2")


def check_state(state_dict: Mapping[str, Any], entry: Method) -> None:
    """Check that a state was saved by the same method.

    Missing options are accepted, because the state may be from an older version.

    Raises:
        CheckpointError: If the state was saved by another method, whose name is part of
            the message.
    """
    given: Any = state_dict
    if not isinstance(given, Mapping) or not {"state", "param_groups"} <= given.keys():
        kind = "a dict without param_groups and state"
        kind = kind if isinstance(given, Mapping) else f"of type {type(given).__name__}"
        raise CheckpointError(
            f"state_dict: must be the state of an optimizer, but got {kind}. Pass "
            "the result of state_dict()."
        )
    found = _saved_by(state_dict)
    if found is entry:
        return
    keys = _keys(state_dict)
    known = {option.name for option in entry.options}
    every = {o.name for other in CATALOGUE.values() for o in other.options}
    # A plugin may reuse option names of other methods, and have no others.
    if entry.name not in BUILT_IN and keys & every == known:
        return
    if entry.name in ("adamw", "adamw_8bit"):
        known = (known - {"beta1", "beta2"}) | {"betas"}
    # Not all of them, since options are added from version to version.
    if found is None and 2 * len(known & keys) >= len(known):
        return
    saved = f"from {found.label}" if found else "from another optimizer"
    raise CheckpointError(
        f"state_dict: the state is {saved} and cannot be loaded into {entry.label}. "
        "Load it into the same optimizer that saved it, or train without loading a "
        "state."
    )


def check_shapes(
    state_dict: Mapping[str, Any],
    groups: Sequence[Mapping[str, Any]],
    shapes: Mapping[str, StateShape] = MappingProxyType({}),
) -> None:
    """Check that the shapes of a state match the parameters.

    Fused kernels do not check the shapes of a state.

    Args:
        state_dict: the state to load.
        groups: parameter groups of the optimizer.
        shapes: shapes of the states of the rule by name.

    Raises:
        CheckpointError: If the state of a parameter has another shape, for example
            because the layers or the rank differ.
    """
    for label, parameter, state in _matched(state_dict, groups):
        for key, value in _tensors(state):
            if not _fits(key, value, parameter, shapes.get(key)):
                raise CheckpointError(
                    f"state_dict: the state of {label} has shape "
                    f"{tuple(value.shape)}, but the parameter has shape "
                    f"{tuple(parameter.shape)}. Use the same layers and ranks, in the "
                    "same order, as when the state was saved."
                )


def keep_dtypes(
    state: Mapping[Tensor, dict[str, Any]],
    state_dict: Mapping[str, Any],
    groups: Sequence[Mapping[str, Any]],
    wanted: Callable[[Tensor], bool] = lambda parameter: True,
) -> None:
    """Restore the dtypes of loaded state tensors.

    torch casts floating-point states to the dtype of the parameter. float32 moments of
    a bfloat16 parameter would become bfloat16, and small squares would be 0 in float16.

    Args:
        state: state of the optimizer after it was loaded by torch.
        state_dict: the loaded state.
        groups: parameter groups of the optimizer.
        wanted: function that returns whether to restore the dtypes of a parameter's
            state.
    """
    for _, parameter, saved in _matched(state_dict, groups):
        if not wanted(parameter):
            continue
        for key, value in saved.items():
            if isinstance(value, Tensor):
                # Step counts stay on the CPU, where reading them does not synchronize.
                device = value.device if "step" in key else parameter.device
                state[parameter][key] = value.detach().clone().to(device)


def _matched(
    state_dict: Mapping[str, Any], groups: Sequence[Mapping[str, Any]]
) -> Iterator[tuple[str, Tensor, Mapping[str, Any]]]:
    """Yield label, parameter and saved state, matched by order as in torch."""
    saved = [i for group in state_dict["param_groups"] for i in group["params"]]
    named: list[tuple[str, Tensor]] = []
    for group in groups:
        names = [repr(name) for name in names_of(group) or ()]
        for place, parameter in enumerate(group["params"]):
            label = names[place] if names else f"parameter {len(named)}"
            named.append((label, parameter))
    # Torch itself rejects a different number of parameters.
    for index, (label, parameter) in zip(saved, named, strict=False):
        yield label, parameter, state_dict["state"].get(index, {})


def _tensors(state: Mapping[str, Any]) -> Iterator[tuple[str, Tensor]]:
    """Yield the names and tensors of a state; bitsandbytes nests some of them."""
    for key, value in state.items():
        if isinstance(value, Mapping):
            yield from _tensors(value)
        elif isinstance(value, Tensor):
            yield key, value


def _fits(key: str, value: Tensor, parameter: Tensor, shape: StateShape | None) -> bool:
    if shape in ("rows", "columns"):
        return value.shape == size_of(shape, parameter)
    if key in _LIKE_PARAMETER:
        return value.shape == parameter.shape
    if value.dim() != parameter.dim() or value.dim() < 2:
        return True
    rank = parameter.shape[1]
    known = (parameter.shape, torch.Size((rank, rank)), torch.Size((1, 1)))
    return value.shape in known


def fill_options(
    group: dict[str, Any], entry: Method, defaults: Mapping[str, Any]
) -> None:
    """Add missing options to a parameter group that was saved by an older version.

    Args:
        group: parameter group, which is changed in place.
        entry: catalogue entry of the method.
        defaults: default options of the optimizer.
    """
    for option in entry.options:
        made_with = defaults.get(option.name, option.default)
        older = made_with if option.older is None else option.older
        group.setdefault(option.name, older)


def _saved_by(state_dict: Mapping[str, Any]) -> Method | None:
    """Identify the method that saved a state by the options in its groups."""
    keys = _keys(state_dict)
    built_in = Counter(o.name for name in BUILT_IN for o in CATALOGUE[name].options)
    uses = Counter(o.name for entry in CATALOGUE.values() for o in entry.options)
    for entry in CATALOGUE.values():
        # A plugin cannot take a name from a built-in method.
        count = built_in if entry.name in BUILT_IN else uses
        own = {o.name for o in entry.options if count[o.name] == 1}
        # Not all, since some may be newer. Not just one: SGD has ``nesterov``, too.
        if own and 2 * len(own & keys) >= len(own):
            return entry
    if "betas" not in keys:
        return None
    # Torch's AdamW writes its switches into every group, that of bitsandbytes does not.
    return CATALOGUE["adamw" if "amsgrad" in keys else "adamw_8bit"]


def _keys(state_dict: Mapping[str, Any]) -> set[str]:
    return {key for group in state_dict["param_groups"] for key in group}
