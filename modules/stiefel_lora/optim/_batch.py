"""Stack a chunk of pairs for a rule, and bring the result back."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from ._master_weights import values
from ._members import STEP, Member, State, create_state, state_tensors, work_dtype
from .rule import PairBatch, Rule
from .stacking import column, gather, scatter

__all__ = ["stack_pairs", "step_usable", "write_back", "write_gradients"]


def stack_pairs(
    state: State,
    chunk: Sequence[Member],
    rule: Rule,
    *,
    width: float,
    joint: Tensor | None = None,
) -> PairBatch:
    """Stack pairs of one bucket; missing state is created as zeros.

    Args:
        state: the optimizer's state.
        chunk: pairs that share shapes, dtype, device and choices.
        rule: whose options and states are stacked.
        width: median layer side, passed on.
        joint: sum of the rule's measure, passed on.
    """
    first, choices = chunk[0].pair.up, chunk[0].choices
    shapes = rule.states(choices)
    for member in chunk:
        create_state(state, member.pair, shapes)
    dtype = work_dtype(first)
    up = gather([values(state, member.pair.up) for member in chunk], dtype)
    step = column([float(state[m.pair.up][STEP]) for m in chunk], up)
    skipped = [m.skipped for m in chunk if m.skipped is not None]
    if skipped:
        # This step is counted already where it is left out; then the number is unused.
        left_out = torch.stack(skipped).to(step).view(step.shape)
        step = (step - left_out).clamp_min(0)
    numbers = [rule.numbers(member.up_group) for member in chunk]
    batch = PairBatch(
        up=up,
        down=gather([values(state, member.pair.down) for member in chunk], dtype),
        grad_up=gather([member.grad_up for member in chunk], dtype),
        grad_down=gather([member.grad_down for member in chunk], dtype),
        state={
            name: gather(state_tensors(state, chunk, name, shape), dtype)
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


def step_usable(rule: Rule, batch: PairBatch) -> None:
    """Let the rule step; pairs that are not usable keep factors and state."""
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
    """Show the rule zeros in place of what it cannot use."""
    if not flags:
        return
    usable = batch.usable = torch.stack(flags).view(-1, 1, 1)
    batch.grad_up = torch.where(usable, batch.grad_up, 0.0)
    batch.grad_down = torch.where(usable, batch.grad_down, 0.0)
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
    """Copy factors of the given roles and all state back into their tensors."""
    for role in roles:
        targets = [values(state, getattr(member.pair, role)) for member in chunk]
        scatter(getattr(batch, role), targets)
    for name, shape in rule.states(chunk[0].choices).items():
        scatter(batch.state[name], state_tensors(state, chunk, name, shape))


def write_gradients(chunk: Sequence[Member], batch: PairBatch) -> None:
    """Let the members carry the batch's gradients; ``.grad`` stays as it was."""
    for index, member in enumerate(chunk):
        member.grad_up = batch.grad_up[index].view_as(member.pair.up)
        member.grad_down = batch.grad_down[index].view_as(member.pair.down)
