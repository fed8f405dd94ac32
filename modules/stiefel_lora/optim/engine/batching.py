"""Stacking of the pairs of one step for an update rule, and writing back the results.

As in torch, the state is stored under the parameters: tensors with the shape of A under
A, all others under B. ``state_dict`` and ``load_state_dict`` therefore work as usual.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from ..pairs import Pair
from ..rule import PairBatch, Role, Rule, StateShape
from .master_weights import State, values
from .stacking import bucketed, chunked, column, gather, scatter

__all__ = [
    "STEP",
    "Member",
    "bucket_key",
    "chunks_of",
    "free_half",
    "new_state",
    "owner_of",
    "read_counts",
    "ready_members",
    "size_of",
    "stack_pairs",
    "step_usable",
    "steps_taken",
    "work_dtype",
    "write_back",
    "write_gradients",
]

STEP = "pair_step"
"""Name of a state of B: number of steps of the pair, float32 on the CPU."""


@dataclasses.dataclass(eq=False)
class Member:
    """Pair with both gradients in the current gauge, and its parameter groups.

    Attributes:
        index: position in the optimizer's list of pairs.
        usable: whether both gradients are finite, see
            :class:`~stiefel_lora.optim.engine.gradient_watch.Watch`.
        skipped: number of skipped steps of the pair. It is a float if reading it does
            not synchronize.
        taken: number of previous steps, including skipped ones (see
            :func:`read_counts`).
    """

    index: int
    pair: Pair
    up_group: dict[str, Any]
    down_group: dict[str, Any]
    grad_up: Tensor
    grad_down: Tensor
    choices: dict[str, Any]
    usable: Tensor | None = None
    skipped: Tensor | float | None = None
    taken: float = 0.0


def ready_members(
    pairs: Sequence[Pair], owners: Mapping[int, dict[str, Any]], rule: Rule
) -> list[Member]:
    """Collect the pairs that have both gradients."""
    members = []
    for index, pair in enumerate(pairs):
        if pair.up.grad is None or pair.down.grad is None or free_half(pair):
            continue
        up_group, down_group = owners[id(pair.up)], owners[id(pair.down)]
        # Options that select code are those of the group of B (see check_agreement).
        choices = rule.choices(up_group)
        grads = pair.up.grad, pair.down.grad
        members.append(Member(index, pair, up_group, down_group, *grads, choices))
    return members


def free_half(pair: Pair) -> Role | None:
    """Return the trainable factor of a pair whose other factor is frozen, or None."""
    if pair.up.requires_grad == pair.down.requires_grad:
        return None
    role: Role = "up" if pair.up.requires_grad else "down"
    return None if getattr(pair, role).grad is None else role


def bucket_key(member: Member) -> tuple[Any, ...]:
    """Return the key of members that can be stacked together."""
    up, down = member.pair.matrices
    # Choices select code, so pairs with other choices need a separate call.
    choices = tuple(sorted(member.choices.items()))
    return up.shape, down.shape, up.dtype, down.dtype, up.device, choices


def chunks_of(members: Sequence[Member]) -> Iterator[list[Member]]:
    """Yield chunks of members with the same shape and a limited total size."""
    for bucket in bucketed(members, bucket_key):
        each = bucket[0].pair.up.numel() + bucket[0].pair.down.numel()
        yield from chunked(bucket, each)


def work_dtype(*tensors: Tensor) -> torch.dtype:
    """Return the dtype for computations: float64 if any tensor has it, else float32."""
    wide = any(tensor.dtype == torch.float64 for tensor in tensors)
    return torch.float64 if wide else torch.float32


def _create_state(state: State, pair: Pair, shapes: Mapping[str, StateShape]) -> None:
    """Create missing states of a pair, filled with zeros."""
    for name, shape in shapes.items():
        owner = getattr(pair, owner_of(shape))
        # A loaded state may come from a version without this tensor.
        if name not in state[owner]:
            state[owner][name] = new_state(shape, owner)


def read_counts(state: State, members: Sequence[Member]) -> None:
    """Read the step counts of all members. Missing counts are created."""
    held = [state[member.pair.up] for member in members]
    for own in held:
        if STEP not in own:
            own[STEP] = torch.zeros((), dtype=torch.float32)
    # Step counts are on the CPU, as in torch's own optimizers, so reading them does not
    # synchronize. One by one, it costs as much as the r x r work of a step.
    counts = torch.stack([own[STEP] for own in held]).tolist() if held else []
    for member, count in zip(members, counts, strict=True):
        member.taken = count


def owner_of(shape: StateShape) -> Role:
    """Return the factor under which a state of this shape is stored."""
    return "down" if shape in ("down", "columns") else "up"


def new_state(shape: StateShape, owner: Tensor) -> Tensor:
    """Create a state of the given shape for a factor, filled with zeros."""
    # Not in the dtype of a half-precision owner: in bfloat16, 0.999 v rounds to v, so
    # that a second moment would never decay.
    return owner.new_zeros(size_of(shape, owner), dtype=work_dtype(owner))


def size_of(shape: StateShape, owner: Tensor) -> torch.Size:
    """Return the size of a state tensor of the given shape for a factor."""
    size = owner.shape
    if shape == "core":
        return torch.Size((size[1], size[1]))
    if shape == "scalar":
        return torch.Size((1, 1))
    if shape == "rows":
        return torch.Size((size[0], *(1 for _ in size[1:])))
    return torch.Size((1, *size[1:])) if shape == "columns" else size


def _state_tensors(
    state: State, members: Sequence[Member], name: str, shape: StateShape
) -> list[Tensor]:
    """Return the state tensors with the given name of several pairs."""
    role = owner_of(shape)
    return [state[getattr(m.pair, role)][name] for m in members]


def stack_pairs(
    state: State,
    chunk: Sequence[Member],
    rule: Rule,
    *,
    width: float,
    joint: Tensor | None = None,
) -> PairBatch:
    """Stack pairs of the same shape. Missing states are created, filled with zeros.

    Args:
        state: state of the optimizer.
        chunk: pairs with the same shapes, dtype, device and choices.
        rule: update rule, which defines the options and the shapes of the states.
        width: median number of inputs and outputs of the layers, passed to the rule.
        joint: sum of :meth:`Rule.measure` over all pairs, passed to the rule.
    """
    first, choices = chunk[0].pair, chunk[0].choices
    shapes = rule.states(choices)
    for member in chunk:
        _create_state(state, member.pair, shapes)
    read_counts(state, chunk)
    # One dtype for both: products of a float64 and a float32 matrix are an error.
    dtype = work_dtype(first.up, first.down)
    up = gather([values(state, member.pair.up) for member in chunk], dtype)
    step = steps_taken(chunk, up)
    numbers = [rule.numbers(member.up_group) for member in chunk]
    batch = PairBatch(
        up=up,
        down=gather([values(state, member.pair.down) for member in chunk], dtype),
        grad_up=gather([member.grad_up for member in chunk], dtype),
        grad_down=gather([member.grad_down for member in chunk], dtype),
        state={
            name: gather(_state_tensors(state, chunk, name, shape), dtype)
            for name, shape in shapes.items()
        },
        lr_up=column([m.up_group["lr"] for m in chunk], up),
        lr_down=column([m.down_group["lr"] for m in chunk], up),
        step=step,
        numbers={k: column([n[k] for n in numbers], up) for k in numbers[0]},
        choices=choices,
        names=[member.pair.name for member in chunk],
        width=width,
        joint=up.new_zeros(1, 1, 1) if joint is None else joint.to(up.device),
    )
    _mask(batch, [m.usable for m in chunk if m.usable is not None], rule)
    return batch


def steps_taken(members: Sequence[Member], like: Tensor) -> Tensor:
    """Return the number of steps of each pair before this one, ``(K, 1, 1)``."""
    skipped = [m.skipped for m in members if isinstance(m.skipped, Tensor)]
    # A skipped pair has already counted this step; its number is then unused.
    if not skipped:
        return column([max(0.0, m.taken - (m.skipped or 0.0)) for m in members], like)
    step = column([member.taken for member in members], like)
    left_out = torch.stack(skipped).to(step).view(step.shape)
    return (step - left_out).clamp_min(0)


def step_usable(rule: Rule, batch: PairBatch) -> None:
    """Apply the update rule. Pairs with invalid gradients are left unchanged."""
    # References suffice: a rule replaces tensors and never writes into given ones.
    # ``kept`` has the real factors where the rule got zeros.
    before = {"up": batch.up, "down": batch.down} | batch.state | batch.kept
    rule.update(batch)
    usable = batch.usable
    if usable is None:
        return
    batch.up = torch.where(usable, batch.up, before["up"])
    batch.down = torch.where(usable, batch.down, before["down"])
    for name in batch.state:
        batch.state[name] = torch.where(usable, batch.state[name], before[name])


def _mask(batch: PairBatch, flags: list[Tensor], rule: Rule) -> None:
    """Replace the tensors of pairs with invalid gradients by zeros."""
    if not flags:
        return
    usable = batch.usable = torch.stack(flags).view(-1, 1, 1)
    batch.grad_up = torch.where(usable, batch.grad_up, 0.0)
    batch.grad_down = torch.where(usable, batch.grad_down, 0.0)
    # On NaN, LAPACK raises for the whole batch: one bad layer would stop the run.
    if rule.factorizes:
        batch.kept = {"up": batch.up, "down": batch.down}
        batch.up = torch.where(usable, batch.up, 0.0)
        batch.down = torch.where(usable, batch.down, 0.0)


def write_back(
    state: State,
    chunk: Sequence[Member],
    rule: Rule,
    batch: PairBatch,
    roles: Sequence[str] = ("up", "down"),
) -> None:
    """Copy the factors of the given roles and all states back into their tensors."""
    for role in roles:
        targets = [values(state, getattr(member.pair, role)) for member in chunk]
        scatter(getattr(batch, role), targets)
    for name, shape in rule.states(chunk[0].choices).items():
        scatter(batch.state[name], _state_tensors(state, chunk, name, shape))


def write_gradients(chunk: Sequence[Member], batch: PairBatch) -> None:
    """Set the gradients of the members from the batch. ``.grad`` is not modified."""
    for index, member in enumerate(chunk):
        member.grad_up = batch.grad_up[index].view_as(member.pair.up)
        member.grad_down = batch.grad_down[index].view_as(member.pair.down)
