"""Errors for unsupported parameters and parameter groups."""

from __future__ import annotations

import numbers
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from ..._exceptions import OptionError, PairingError
from ..pairs import Pair, PairMap
from ..rule import Rule

__all__ = [
    "check_agreement",
    "check_devices",
    "check_found",
    "check_lr",
    "check_ownership",
    "check_whole",
]


def check_found(found: PairMap, method: str, *, last: bool = False) -> None:
    """Check that there is at least one LoRA pair.

    No error is raised if there are LoRA factors that cannot be trained as pairs,
    because they are reported elsewhere. Before the first step, the other factor of a
    pair may still be added with another parameter group.

    Args:
        found: result of the pair detection.
        method: name of the optimizer.
        last: whether no other parameter group will be added.
    """
    if found.pairs or (found.waiting and not last):
        return
    known = [name for name, tensor in found.rest if id(tensor) in found.reasons]
    if known and not found.waiting:
        return
    names = [name for name, _ in found.rest]
    shown = ", ".join(names[:3]) + (", ..." if len(names) > 3 else "")
    raise PairingError(
        f"params: {method} found no LoRA pairs in {len(names)} parameters "
        f"({shown}). Add the LoRA before creating the optimizer (get_peft_model in "
        "peft, or add_adapter), and pass the model, or the named parameters of A "
        "and B of every layer."
    )


def check_lr(lr: float | Tensor) -> None:
    """Check that a learning rate is a number in [0, inf).

    The value of a tensor is only read on the CPU, since it would synchronize with any
    other device.
    """
    given = lr
    if isinstance(lr, Tensor):
        if lr.numel() != 1 or lr.dtype == torch.bool:
            raise OptionError(f"lr must be one number, but got {given!r}.")
        if lr.device.type != "cpu":
            return
        lr = lr.item()
    is_number = isinstance(lr, numbers.Real) and not isinstance(lr, bool)
    if not is_number or not 0.0 <= lr < float("inf"):
        raise OptionError(f"lr must be in [0, inf), but got {given!r}.")


def check_whole(tensors: Iterable[Tensor], method: str) -> None:
    """Check that no parameter is sharded (DTensor)."""
    if any(_is_sharded(tensor) for tensor in tensors):
        raise OptionError(
            f"params: {method} does not support sharded LoRA parameters (DTensor). "
            "Exclude them from FSDP or tensor parallelism. The base model can be "
            "sharded."
        )


def check_devices(pair: Pair) -> None:
    """Check that both factors of a pair are on one device."""
    up, down = pair.up.device, pair.down.device
    if up != down:
        raise OptionError(
            f"params: B of {pair.name!r} is on {up}, but its A is on {down}. Move both "
            "to the same device."
        )


def check_ownership(
    pairs: Sequence[Pair], owners: Mapping[int, dict[str, Any]], method: str
) -> None:
    """Check that the parameter groups still contain all factors (unlike with ZeRO)."""
    for pair in pairs:
        if id(pair.up) not in owners or id(pair.down) not in owners:
            raise OptionError(
                f"The factors of {pair.name!r} are no longer in the parameter "
                f"groups. {method} does not support optimizers with flat buffers, "
                "such as DeepSpeed ZeRO. Use DDP, or FSDP2 for the base model only."
            )


def check_agreement(
    pairs: Sequence[Pair],
    owners: Mapping[int, dict[str, Any]],
    defaults: Mapping[str, Any],
    rule: Rule,
) -> None:
    """Check that A and B have the same values of options that select code.

    The values in the group of B are used for both factors.

    Args:
        pairs: pairs of the optimizer.
        owners: parameter groups by the id of a factor.
        defaults: default options of the optimizer.
        rule: update rule of the method.
    """
    for pair in pairs:
        up, down = owners[id(pair.up)], owners[id(pair.down)]
        if up is down:
            continue
        mine, theirs = rule.choices(up), rule.choices(down)
        for name, value in theirs.items():
            if value != mine[name] and value != defaults.get(name, value):
                raise OptionError(
                    f"{name}: the A factor of {pair.name!r} is in a group with "
                    f"{name}={value!r}, but its B factor has {name}={mine[name]!r}, "
                    "which is used for both. Set the same value in both groups."
                )


def _is_sharded(tensor: Tensor) -> bool:
    # By name: importing torch.distributed.tensor costs a second in every program.
    return any(kind.__name__ == "DTensor" for kind in type(tensor).__mro__)
