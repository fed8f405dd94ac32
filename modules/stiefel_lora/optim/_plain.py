"""Who takes torch's own AdamW inside a pair optimizer: what has no pair, mostly."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from ._adamw import adamw_step
from ._groups import is_magnitude
from ._master_weights import values
from ._members import Member, State, free_half
from .pairs import Pair
from .rule import Role, Rule
from .stacking import bucketed

__all__ = ["plain_factors", "step_plain"]

# (parameter, gradient, multiple of the group's rate, whether it decays, in a pair)
Entry = tuple[Tensor, Tensor, float, bool, bool]


def step_plain(
    state: State,
    groups: Sequence[dict[str, Any]],
    rule: Rule,
    rest: Sequence[tuple[str, Tensor]],
    factors: Sequence[tuple[Tensor, Tensor, Role]],
    found: Callable[[torch.device], Tensor | None] = lambda device: None,
) -> None:
    """Take a step of AdamW on factors the rule leaves to it, and on the rest.

    Args:
        state: the optimizer's state.
        groups: parameter groups, for rates and options.
        rule: the method.
        rest: (name, parameter) of what has no pair.
        factors: (factor, gradient, role).
        found: device -> 1.0 where no factor there takes this step, else 0.0.
    """
    by_id = {id(factor): (gradient, role) for factor, gradient, role in factors}
    free = {id(param): _decays(name, param) for name, param in rest}
    for group in groups:
        entries = list(_entries(group, rule, free, by_id))
        for bucket in bucketed(entries, _key):
            params = [entry[0] for entry in bucket]
            _, _, ratio, decays, in_pair = bucket[0]
            adamw_step(
                [values(state, param) for param in params],
                [entry[1] for entry in bucket],
                [state[param] for param in params],
                group,
                lr=group["lr"] * ratio,
                weight_decay=group.get("weight_decay", 0.0) if decays else 0.0,
                found=found(params[0].device) if in_pair else None,
            )


def plain_factors(
    pairs: Sequence[Pair],
    members: Sequence[Member],
    owners: Mapping[int, dict[str, Any]],
    rule: Rule,
) -> list[tuple[Tensor, Tensor, Role]]:
    """The factors that AdamW trains, with gradients in the current gauge.

    A method that leaves both factors to AdamW treats them one by one; so does every
    method where one factor is frozen. Else both gradients must exist.
    """
    found: list[tuple[Tensor, Tensor, Role]] = []
    for member in members:
        roles = rule.adamw_roles(member.up_group)
        if len(roles) == 1 and "up" in roles:
            found.append((member.pair.up, member.grad_up, "up"))
        if len(roles) == 1 and "down" in roles:
            found.append((member.pair.down, member.grad_down, "down"))
    for pair in pairs:
        if len(rule.adamw_roles(owners[id(pair.up)])) < 2 and not free_half(pair):
            continue
        if pair.up.grad is not None:
            found.append((pair.up, pair.up.grad, "up"))
        if pair.down.grad is not None:
            found.append((pair.down, pair.down.grad, "down"))
    return found


def _entries(
    group: dict[str, Any],
    rule: Rule,
    free: Mapping[int, bool],
    by_id: Mapping[int, tuple[Tensor, Role]],
) -> Iterator[Entry]:
    roles = rule.adamw_roles(group)
    rest_ratio = rule.rest_lr_ratio(group)
    for param in group["params"]:
        if id(param) in by_id:
            gradient, role = by_id[id(param)]
            yield param, gradient, roles.get(role, rest_ratio), True, True
        elif id(param) in free and param.grad is not None:
            yield param, param.grad, rest_ratio, free[id(param)], False


def _decays(name: str, param: Tensor) -> bool:
    """Magnitudes of a DoRA, biases and norms do not decay."""
    return param.dim() > 1 and not is_magnitude(name, param)


def _key(entry: Entry) -> tuple[Any, ...]:
    param, _, ratio, decays, in_pair = entry
    return param.device, param.dtype, ratio, decays, in_pair
