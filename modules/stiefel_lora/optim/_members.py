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
from .gauge import Gauge
from .pairs import Pair
from .rule import Role, Rule, StateShape

__all__ = [
    "STEP",
    "Member",
    "bucket_key",
    "create_state",
    "free_half",
    "new_state",
    "owner_of",
    "ready_members",
    "state_tensors",
    "translate_state",
    "work_dtype",
]

STEP = "pair_step"
"""State of B: how many steps its pair has taken, float32 on the CPU."""

State = Mapping[Tensor, dict[str, Any]]


@dataclasses.dataclass(eq=False)
class Member:
    """A pair with both gradients, in the current gauge, and the groups it obeys.

    ``index`` is its place in the optimizer's list of pairs; ``usable`` and ``skipped``
    are the flag and the count of :class:`~stiefel_lora.optim._gradient_watch.Watch`.
    """

    index: int
    pair: Pair
    up_group: dict[str, Any]
    down_group: dict[str, Any]
    grad_up: Tensor
    grad_down: Tensor
    choices: dict[str, Any]
    usable: Tensor | None = None
    skipped: Tensor | None = None


def ready_members(
    pairs: Sequence[Pair], owners: Mapping[int, dict[str, Any]], rule: Rule
) -> list[Member]:
    """The pairs whose two gradients exist; the others are left alone this time."""
    members = []
    for index, pair in enumerate(pairs):
        if pair.up.grad is None or pair.down.grad is None or free_half(pair):
            continue
        up_group, down_group = owners[id(pair.up)], owners[id(pair.down)]
        choices = rule.choices(up_group)
        grads = pair.up.grad, pair.down.grad
        members.append(Member(index, pair, up_group, down_group, *grads, choices))
    return members


def free_half(pair: Pair) -> Role | None:
    """The factor that trains while its partner is frozen, if it has a gradient."""
    if pair.up.requires_grad == pair.down.requires_grad:
        return None
    role: Role = "up" if pair.up.requires_grad else "down"
    return None if getattr(pair, role).grad is None else role


def bucket_key(member: Member) -> tuple[Any, ...]:
    """Members with equal keys can be stacked."""
    up, down = member.pair.matrices
    choices = tuple(sorted(member.choices.items()))
    return up.shape, down.shape, up.dtype, up.device, choices


def work_dtype(tensor: Tensor) -> torch.dtype:
    """The dtype that the mathematics runs in: float32, or float64 where given."""
    return torch.float64 if tensor.dtype == torch.float64 else torch.float32


def create_state(state: State, pair: Pair, shapes: Mapping[str, StateShape]) -> None:
    """Make a pair's zero state where it has none yet."""
    if STEP not in state[pair.up]:
        state[pair.up][STEP] = torch.zeros((), dtype=torch.float32)
    for name, shape in shapes.items():
        owner = getattr(pair, owner_of(shape))
        # A loaded state may be older than one of its tensors.
        if name not in state[owner]:
            state[owner][name] = new_state(shape, owner)


def owner_of(shape: StateShape) -> Role:
    """The factor under which a state of this shape lies."""
    return "down" if shape in ("down", "columns") else "up"


def new_state(shape: StateShape, owner: Tensor) -> Tensor:
    """Zeros of a shape for the factor that owns the state."""
    size = owner.shape
    if shape in ("core", "scalar"):
        size = (size[1], size[1]) if shape == "core" else (1, 1)
    elif shape == "rows":
        size = (size[0], *(1 for _ in size[1:]))
    elif shape == "columns":
        size = (1, *size[1:])
    return owner.new_zeros(size, dtype=work_dtype(owner))


def state_tensors(
    state: State, members: Sequence[Member], name: str, shape: StateShape
) -> list[Tensor]:
    """The state tensors called ``name`` of several pairs."""
    role = owner_of(shape)
    return [state[getattr(m.pair, role)][name] for m in members]


def translate_state(
    gauge: Gauge, state: State, pair: Pair, shapes: Mapping[str, StateShape]
) -> None:
    """Express the moments of a pair in the coordinates of (Q, R A), in place.

    ``shapes`` names the rule's own states that follow the gauge; A's moments under
    torch's AdamW always do.
    """
    up_state, down_state = state.get(pair.up, {}), state.get(pair.down, {})
    for name, shape in shapes.items():
        if shape == "up" and name in up_state:
            up_state[name].copy_(gauge.to_up(up_state[name]))
        if shape == "down" and name in down_state:
            down_state[name].copy_(gauge.to_down(down_state[name]))
    _, mean, square = ADAMW_STATE
    if mean in down_state:
        down_state[mean].copy_(gauge.to_down(down_state[mean]))
        down_state[square].copy_(gauge.to_down_squares(down_state[square]))
