"""Checks and conversion of a loaded optimizer state."""

from __future__ import annotations

import itertools
import logging
import math
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from types import MappingProxyType
from typing import Any

import torch
from torch import Tensor

from ..._exceptions import CheckpointError
from ...methods import BUILT_IN, CATALOGUE, Method
from ..groups import names_of
from ..rule import Role, StateShape
from .batching import STEP, owner_of, size_of
from .gradient_watch import SKIPPED
from .master_weights import MASTER

__all__ = [
    "check_names",
    "check_shapes",
    "check_state",
    "fill_options",
    "keep_dtypes",
]

log = logging.getLogger("stiefel_lora")

# Shaped like the parameter in every method. Those of the second line were saved by
# version 0.1 (see Rule.adopt).
_LIKE_PARAMETER = (
    *("exp_avg", "exp_avg_sq", MASTER, "state1", "state2"),
    *("basis_up", "basis_down", "frame_left", "frame_right"),
    *("momentum_left", "momentum_right"),
)

_COUNTS = ("step", STEP, SKIPPED)


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
    groups = given["param_groups"]
    known = isinstance(groups, list | tuple) and all(map(_is_group, groups))
    if not known or not isinstance(given["state"], Mapping):
        key = "state" if known else "param_groups"
        raise CheckpointError(
            f"state_dict: {key} does not have the format of torch. Pass the result of "
            "state_dict()."
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


def check_names(
    state_dict: Mapping[str, Any], groups: Sequence[Mapping[str, Any]]
) -> None:
    """Check that a state is not for the same parameters in another order.

    Like torch, states are assigned to parameters by their order. Names are compared if
    both have them. Other names are accepted with a warning, because a wrapper of the
    model adds a prefix.

    Raises:
        CheckpointError: If the names are the same in another order.
    """
    saved = [
        list(group.get("param_names") or ()) for group in state_dict["param_groups"]
    ]
    given = [list(names_of(group) or ()) for group in groups]
    old, new = (list(itertools.chain(*names)) for names in (saved, given))
    if old == new or not old or not new:
        return
    first, wanted = next(
        (a, b) for a, b in itertools.zip_longest(old, new, fillvalue="") if a != b
    )
    if sorted(old) == sorted(new):
        raise CheckpointError(
            "state_dict: the state was saved with the parameters in another order "
            f"({first!r} in the place of {wanted!r}). States are assigned by order. "
            "Pass the parameters in the order of the saved training."
        )
    log.warning(
        "The names of the parameters differ from those of the loaded state, for "
        "example %r instead of %r. The state is assigned by the order of the "
        "parameters.",
        wanted,
        first,
    )


def check_shapes(
    state_dict: Mapping[str, Any],
    groups: Sequence[Mapping[str, Any]],
    shapes: Mapping[str, StateShape] = MappingProxyType({}),
    roles: Mapping[int, Role] = MappingProxyType({}),
) -> None:
    """Check that the states of the parameters have the names and shapes of this method.

    Fused kernels do not check the shapes of a state.

    Args:
        state_dict: the state to load.
        groups: parameter groups of the optimizer.
        shapes: shapes of the states of the rule by name.
        roles: roles of the factors of pairs, by id.

    Raises:
        CheckpointError: If the state of a parameter has another shape, for example
            because the layers or the rank differ, or belongs to the other factor.
    """
    for label, parameter, state in _matched(state_dict, groups):
        given: Any = state
        if not isinstance(given, Mapping):
            raise CheckpointError(
                f"state_dict: the state of {label} must be a dict, but got "
                f"{type(given).__name__}. Pass the result of state_dict()."
            )
        role = roles.get(id(parameter))
        for key, value in _entries(state):
            problem = _problem(key, value, parameter, shapes.get(key), role)
            if problem:
                raise CheckpointError(
                    f"state_dict: the state of {label} {problem}. Use the same layers "
                    "and ranks, in the same order, as when the state was saved."
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


def _entries(state: Mapping[str, Any]) -> Iterator[tuple[str, Any]]:
    """Yield the names and values of a state; bitsandbytes nests some of them."""
    for key, value in state.items():
        if isinstance(value, Mapping):
            yield from _entries(value)
        else:
            yield key, value


def _problem(
    key: str,
    value: object,
    parameter: Tensor,
    shape: StateShape | None,
    role: Role | None,
) -> str | None:
    """Return the reason why a state cannot belong to a parameter, or None."""
    if key in _COUNTS:
        return _count_problem(key, value, parameter)
    known = None
    if shape is not None and role is not None:
        if owner_of(shape) != role:
            return f"contains {key}, which is a state of the other factor of the LoRA"
        known = size_of(shape, parameter)
    elif key in _LIKE_PARAMETER:
        known = parameter.shape
    if not isinstance(value, Tensor):
        return f"has {key}={value!r:.60}, which must be a tensor" if known else None
    if value.shape == known or (known is None and _plausible(value, parameter)):
        return None
    if known is None or known == parameter.shape:
        return (
            f"has shape {tuple(value.shape)}, but the parameter has shape "
            f"{tuple(parameter.shape)}"
        )
    return f"has {key} of shape {tuple(value.shape)}, which must be {tuple(known)}"


def _count_problem(key: str, value: object, parameter: Tensor) -> str | None:
    if isinstance(value, Tensor):
        single = value.numel() == 1 and not value.is_complex()
        number = float(value.item()) if single else math.nan
    else:
        # bitsandbytes counts with integers.
        is_number = isinstance(value, int | float) and not isinstance(value, bool)
        number = float(value) if is_number else math.nan
    if 0 <= number < math.inf:
        return None
    return f"has {key}={value!r:.60}, which must be a number of steps"


def _plausible(value: Tensor, parameter: Tensor) -> bool:
    """Return whether a state that this version does not know can have its shape."""
    if value.dim() != parameter.dim() or value.dim() < 2:
        return True
    cores = [torch.Size((rank, rank)) for rank in parameter.shape[:2]]
    return value.shape in (parameter.shape, torch.Size((1, 1)), *cores)


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


def _is_group(group: object) -> bool:
    return isinstance(group, Mapping) and isinstance(group.get("params"), list | tuple)


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
