"""A pair on its way through one step, and the state that belongs to it.

State lives where torch expects it, under the parameters: tensors shaped like A under
A, everything else under B. So ``state_dict`` and everything built on it just work.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from ._adamw import ADAMW_STATE
from ._buckets import gather
from .gauge import Gauge
from .pairs import Pair
from .rule import StateShape

__all__ = [
    "STEP",
    "Member",
    "advance",
    "bucket_key",
    "gather_state",
    "ready_members",
    "state_tensors",
    "translate_state",
]

STEP = "pair_step"
"""State of B: how many steps its pair has taken, float32 on the CPU."""

State = Mapping[Tensor, dict[str, Any]]


@dataclasses.dataclass(eq=False)
class Member:
    """A pair with both gradients, in the current gauge, and the groups it obeys."""

    pair: Pair
    up_group: dict[str, Any]
    down_group: dict[str, Any]
    grad_up: Tensor
    grad_down: Tensor
    choices: dict[str, Any]


def ready_members(
    pairs: Sequence[Pair], groups: Sequence[dict[str, Any]], rule: Any
) -> list[Member]:
    """The pairs whose two gradients exist; the others are left alone this time."""
    owner = {id(p): group for group in groups for p in group["params"]}
    members = []
    for pair in pairs:
        if pair.up.grad is None or pair.down.grad is None:
            continue
        up_group, down_group = owner[id(pair.up)], owner[id(pair.down)]
        choices = rule.choices(up_group)
        grads = pair.up.grad, pair.down.grad
        members.append(Member(pair, up_group, down_group, *grads, choices))
    return members


def bucket_key(member: Member) -> tuple[Any, ...]:
    """Members with equal keys can be stacked."""
    up, down = member.pair.matrices
    choices = tuple(sorted(member.choices.items()))
    return up.shape, down.shape, up.dtype, up.device, choices


def advance(state: State, member: Member, shapes: Mapping[str, StateShape]) -> float:
    """Count a pair's step, and create its zero state before the first one."""
    pair = member.pair
    if STEP not in state[pair.up]:
        state[pair.up][STEP] = torch.zeros((), dtype=torch.float32)
        for name, shape in shapes.items():
            owner = pair.down if shape == "down" else pair.up
            like = (pair.rank, pair.rank) if shape == "core" else owner.shape
            state[owner][name] = pair.up.new_zeros(like)
    state[pair.up][STEP] += 1
    return float(state[pair.up][STEP])


def state_tensors(
    state: State, members: Sequence[Member], name: str, shape: StateShape
) -> list[Tensor]:
    """The state tensors called ``name`` of several pairs."""
    owners = [m.pair.down if shape == "down" else m.pair.up for m in members]
    return [state[owner][name] for owner in owners]


def gather_state(
    state: State, members: Sequence[Member], shapes: Mapping[str, StateShape]
) -> dict[str, Tensor]:
    """Stack the state of pairs of one shape: name -> ``(K, rows, columns)``."""
    stacked = {}
    for name, shape in shapes.items():
        tensors = state_tensors(state, members, name, shape)
        stacked[name] = gather(tensors, tensors[0].dtype)
    return stacked


def translate_state(gauge: Gauge, state: State, pair: Pair) -> None:
    """Express the moments of a pair in the coordinates of (Q, R A), in place."""
    for name, value in state.get(pair.up, {}).items():
        if value.dim() > 1 and name not in ADAMW_STATE:
            value.copy_(gauge.to_up(value))
    for name, value in state.get(pair.down, {}).items():
        if name == "exp_avg_sq":
            value.copy_(gauge.to_down_squares(value))
        elif value.dim() > 1:
            value.copy_(gauge.to_down(value))
