"""Parameter groups: their type, and conversion of the ``params`` argument to them."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, TypedDict

from torch import Tensor, nn

from .._exceptions import OptionError

__all__ = [
    "NAME_LISTS",
    "NOTED_LR",
    "ParamGroup",
    "Source",
    "is_magnitude",
    "named_groups",
    "names_of",
    "spare_magnitudes",
]

# Ours comes first: torch rejects its own key where hosts merge groups.
NAME_LISTS = ("lora_param_names", "param_names")

# Names used by peft, and by LyCORIS and OneTrainer.
_MAGNITUDE = re.compile(r"lora_magnitude_vector|dora_scale")

NOTED_LR = "noted_lr"
"""Key in a parameter group: learning rate that a trainer has already checked."""

Source = nn.Module | Iterable[Any]
"""A model, tensors, (name, tensor) pairs, or groups of either."""


class _Params(TypedDict):
    params: Tensor | Iterable[Tensor] | Iterable[tuple[str, Tensor]]


class ParamGroup(_Params, total=False):
    """Parameter group of the optimizers in the catalogue.

    Only ``params`` is required: tensors, or ``(name, tensor)`` pairs, whose names
    identify LoRA pairs unambiguously. Options that the method does not have raise an
    error. Groups of plugins may have more keys.
    """

    lr: float | Tensor
    name: str
    """Name of the group in log messages."""

    param_names: list[str]
    """Names of the parameters if ``params`` contains tensors without names."""

    weight_decay: float
    weight_decay_b: float | None
    weight_decay_a: float | None
    beta1: float
    beta2: float
    eps: float

    # Stiefel-LoRA
    step: str
    b_rule: str
    b_length: str
    retraction: str
    transport: bool
    a_rule: str
    angle_per_lr: float | None
    momentum: float | None
    nesterov: bool
    rest_lr_ratio: float | None
    decay_rule: str

    # StelLA
    base_rule: str
    s_form: str

    # LoRA-RITE
    escape: bool
    clip_norm: float
    skip_above: float

    # Riemannion
    momentum_form: str

    # LoRA-Muon
    growth: float

    # PoLoRA
    curvature_decay: float
    curvature_damping: float

    # LoRA-TSD
    tau: int
    trust_region: float

    # Whitened LoRA
    longest_turn: float

    # LoRA+
    lr_ratio: float

    # Scaled AdamW
    damping: float


def named_groups(source: Source) -> list[dict[str, Any]]:
    """Convert the ``params`` argument of an optimizer to a list of parameter groups.

    Accepts a module (its parameters that require gradients, with names), tensors,
    ``(name, tensor)`` pairs, or groups of either. The ``params`` of a group may be
    any iterable. Names are stored under torch's key ``param_names``, which groups
    of unnamed tensors do not have.

    Raises:
        OptionError: If there are no parameters, ``params`` is missing, only some
            parameters have names, or a tensor is passed twice.
    """
    if isinstance(source, nn.Module):
        source = [(n, p) for n, p in source.named_parameters() if p.requires_grad]
    entries: list[Any] = [source] if isinstance(source, Tensor) else list(source)
    if not entries:
        raise OptionError(
            "params: got an empty parameter list. Pass a model with trainable LoRA "
            "layers, its named_parameters() or a list of parameter groups."
        )
    if not isinstance(entries[0], Mapping):
        entries = [{"params": entries}]
    groups = [_as_group(entry) for entry in entries]
    _check_each_once(groups)
    return groups


def _check_each_once(groups: Sequence[Mapping[str, Any]]) -> None:
    seen: dict[int, str] = {}
    for group in groups:
        names = names_of(group) or [""] * len(group["params"])
        if len(names) != len(group["params"]):
            raise OptionError(
                f"param_names: a group has {len(names)} names for "
                f"{len(group['params'])} parameters. Pass one name for each "
                "parameter, in the same order."
            )
        for name, tensor in zip(names, group["params"], strict=True):
            label = repr(name) if name else f"shape {tuple(tensor.shape)}"
            if id(tensor) in seen:
                raise OptionError(
                    f"params: a tensor was passed twice, as {seen[id(tensor)]} and "
                    f"as {label}. Pass it once."
                )
            seen[id(tensor)] = label


def _as_group(entry: Mapping[str, Any]) -> dict[str, Any]:
    group = dict(entry)
    if "params" not in group:
        raise OptionError(
            "params: a parameter group has "
            f"{', '.join(map(repr, group)) or 'no keys'} but no 'params'. Add the "
            "parameters of each group under this key."
        )
    given = group["params"]
    members = [given] if isinstance(given, Tensor) else list(given)
    for member in members:
        _check_member(member)
    named = [member for member in members if isinstance(member, tuple)]
    if not named:
        group["params"] = members
        return group
    if len(named) != len(members):
        raise OptionError(
            f"params: only {len(named)} of {len(members)} parameters of a group "
            "have names. Pass names for all of them or for none."
        )
    group["params"] = [tensor for _, tensor in members]
    group["param_names"] = [name for name, _ in members]
    return group


def _check_member(member: object) -> None:
    entry = member[-1] if isinstance(member, tuple) and len(member) == 2 else member
    if isinstance(entry, Tensor):
        return
    raise OptionError(
        f"params: {entry!r:.60} is not a parameter, but a {type(entry).__name__}. "
        "Pass a model, its named_parameters() or a list of parameters. For a dict, "
        "pass items()."
    )


def names_of(group: Mapping[str, Any]) -> list[str] | None:
    """Return the names of a group's parameters, or None unless all have one.

    Names are taken from the lists of the group, or from ``original_name`` of tensors.
    """
    for key in NAME_LISTS:
        if group.get(key):
            return list(group[key])
    found = [getattr(p, "original_name", None) for p in group["params"]]
    texts = [name for name in found if isinstance(name, str)]
    return texts if len(texts) == len(found) else None


def is_magnitude(name: str, tensor: Tensor) -> bool:
    """Return whether a parameter is a DoRA magnitude, by its name or adv_optm's tag."""
    tagged = getattr(tensor, "_is_dora_scale", False)
    return bool(tagged or _MAGNITUDE.search(name))


def spare_magnitudes(groups: Iterable[dict[str, Any]]) -> list[dict[str, Any]]:
    """Move DoRA magnitudes to separate groups without weight decay."""
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
    lists = {key: group[key] for key in ("params", *NAME_LISTS) if key in group}
    return group | {
        key: [item for item, take in zip(items, chosen, strict=True) if take]
        for key, items in lists.items()
    }
