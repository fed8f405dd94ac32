"""Joint updates of both factors of pairs, for rules with a solver.

The first pass runs on all factors, then the solver, then the second pass. Factors are
stacked by shape, so B and A of a pair may be in stacks with different pairs. The solver
is called with the results of both in the order of the pairs.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Iterator, Sequence
from typing import Any

import torch
from torch import Tensor

from ...geometry import full_precision
from ..rule import ROLES, Core, Role, Rule
from .batching import (
    STEP,
    Member,
    bucket_key,
    read_counts,
    steps_taken,
    work_dtype,
)
from .master_weights import State
from .stacking import bucketed, chunked, column
from .two_passes import (
    Chunk,
    Factor,
    factor_of,
    layout_of,
    look_at,
    make_chunk,
    move_chunk,
    stack_key,
    usable_of,
)

__all__ = ["step_together"]


@dataclasses.dataclass(eq=False)
class _Round:
    """Pairs that are processed together, and their first-pass results."""

    members: list[Member]
    ups: list[Chunk]
    downs: list[Chunk]
    up: Core
    down: Core
    lr: Tensor
    numbers: dict[str, Tensor]


def step_together(
    state: State, members: Sequence[Member], rule: Rule, width: float = 0.0
) -> None:
    """Update both factors of pairs whose rule has a solver, and their state.

    Args:
        state: state of the optimizer.
        members: pairs with both gradients.
        rule: update rule of the method.
        width: median number of inputs and outputs of the layers.
    """
    if rule.counts_steps:
        read_counts(state, members)
    rounds = _pair_rounds(members)
    if any(rule.measures(member.up_group) for member in members):
        # The sum must be known before any pair moves. Stacks of all pairs would fill
        # the memory, so they are built again for the second pass unless they are the
        # tensors themselves.
        seen = []
        for same in rounds:
            keep = _is_free_to_keep(same)
            with full_precision(same[0].pair.up.device.type):
                seen.append(_look(state, same, rule, width, keep))
        total = _measure(seen, rule)
        for one in seen:
            one.numbers["joint"] = total.to(one.lr.device)
            with full_precision(one.lr.device.type):
                _move(state, one, rule, width)
    else:
        for same in rounds:
            with full_precision(same[0].pair.up.device.type):
                one = _look(state, same, rule, width, keep=True)
                _move(state, one, rule, width)
    if rule.counts_steps and members:
        torch._foreach_add_([state[m.pair.up][STEP] for m in members], 1)


def _is_free_to_keep(members: Sequence[Member]) -> bool:
    """Return whether the stacks of a round are views without additional memory."""
    pair = members[0].pair
    return layout_of(pair.up).stack_in_pairs == 1 and all(
        tensor.dtype == work_dtype(pair.up, pair.down)
        for m in members
        for tensor in (m.pair.up, m.pair.down, m.grad_up, m.grad_down)
    )


def _look(
    state: State, members: list[Member], rule: Rule, width: float, keep: bool
) -> _Round:
    ups, downs = ([*_role_chunks(members, role, rule)] for role in ROLES)
    if layout_of(members[0].pair.up).together:
        # With several shapes, all stacks would be in memory until the solver is done.
        keep = keep and len(ups) == len(downs) == 1
    numbers = [rule.numbers(member.up_group) for member in members]
    point = members[0].pair
    # Rates and options are columns in float32, also beside bfloat16 factors, in which a
    # rate of 1e-4 would be rounded by up to 0.2 %.
    like = point.up.new_empty(0, dtype=work_dtype(point.up, point.down))
    columns = {k: column([n[k] for n in numbers], like) for k in numbers[0]}
    if rule.counts_steps:
        columns["step"] = steps_taken(members, like) + 1
    _share(members, columns, (ups, downs))
    for chunk in (*ups, *downs):
        look_at(state, chunk, rule, keep, width)
    seen_up, seen_down = _in_order(ups), _in_order(downs)
    lr = _joint_lr(members, like)
    return _Round(members, ups, downs, seen_up, seen_down, lr, columns)


def _share(
    members: Sequence[Member], columns: Core, roles: Iterable[Sequence[Chunk]]
) -> None:
    """Set what is the same for both factors of a pair, computed once for all chunks.

    These are the flags of invalid gradients and, where skipped steps are counted as
    tensors, step numbers and bias corrections. In each chunk, they would take eleven
    launches.
    """
    found: Core = {}
    usable = usable_of(members)
    if usable is not None:
        found["usable"] = usable
    if "step" in columns and isinstance(members[0].skipped, Tensor):
        found["step"] = columns["step"]
        for name in ("beta1", "beta2"):
            if name in columns:
                found[name] = 1 - columns[name] ** columns["step"]
    for chunks in roles if found else ():
        # These are small: one copy in the order of all chunks replaces one for each.
        places = [place for chunk in chunks for place in chunk.places]
        parts = _split(_taken(found, places), chunks)
        for chunk, part in zip(chunks, parts, strict=True):
            chunk.usable, chunk.counted = part.pop("usable", None), part


def _measure(seen: Sequence[_Round], rule: Rule) -> Tensor:
    """Sum :meth:`Rule.measure_seen` over all pairs, on the device of the first pair."""
    total: Tensor | None = None
    for one in seen:
        with full_precision(one.lr.device.type):
            part = rule.measure_seen(one.up, one.down, one.numbers)
        wanted = [rule.measures(member.up_group) for member in one.members]
        if not all(wanted):
            part = part * column([float(w) for w in wanted], part)
        usable = usable_of(one.members)
        if usable is not None:
            # Not a product with the mask: 0 x NaN is NaN, and the sum is part of the
            # step of every pair.
            part = torch.where(usable, part, 0.0)
        part = part.sum(0, keepdim=True)
        # The sum stays on the device: reading it would synchronize once a step.
        total = part if total is None else total + part.to(total)
    assert total is not None
    return total


def _move(state: State, one: _Round, rule: Rule, width: float) -> None:
    solver = rule.solver(one.members[0].choices)
    assert solver is not None
    solved = solver(one.up, one.down, one.lr, one.numbers)
    for chunks, core in zip((one.ups, one.downs), solved, strict=True):
        for chunk, part in zip(chunks, _parts(core, chunks), strict=True):
            chunk.core = part
            move_chunk(state, chunk, rule, width)


def _pair_rounds(members: Sequence[Member]) -> Iterator[list[Member]]:
    """Split pairs into rounds that are processed together, sorted by shape."""
    # Pairs of one shape become neighbors, so that the chunks of B and of A consist of
    # few runs, which _in_order joins as slices.
    alike = (bucket for bucket in bucketed(members, bucket_key))
    ordered = [member for bucket in alike for member in bucket]
    for same in bucketed(ordered, _round_key):
        layout = layout_of(same[0].pair.up)
        if layout.together:
            yield same
            continue
        yield from _filled(same, layout.in_pairs)


def _filled(members: Sequence[Member], limit: int) -> Iterator[list[Member]]:
    """Cut into runs whose larger factors have at most so many floats together."""
    part: list[Member] = []
    floats = 0
    for member in members:
        size = max(member.pair.up.numel(), member.pair.down.numel())
        if part and floats + size > limit:
            yield part
            part, floats = [], 0
        part.append(member)
        floats += size
    if part:
        yield part


def _round_key(member: Member) -> tuple[Any, ...]:
    """Return the key of pairs that can be stacked for the same solver."""
    up, down = member.pair.up, member.pair.down
    choices = tuple(sorted(member.choices.items()))
    return up.shape[1], up.dtype, down.dtype, up.device, choices


def _role_chunks(members: Sequence[Member], role: Role, rule: Rule) -> Iterator[Chunk]:
    """Build the stacks of one role, with the indices of the factors in ``members``."""
    # Stacked by the shape of this factor alone: B depends on the outputs of a layer and
    # A on its inputs, so layers of different shapes often share one of the two stacks.
    placed = list(enumerate(_factors(members, role, rule)))
    for bucket in bucketed(placed, lambda entry: stack_key(entry[1])):
        tensor = bucket[0][1].tensor
        for part in chunked(bucket, tensor.numel(), layout_of(tensor).stack_in_pairs):
            chunk = make_chunk([factor for _, factor in part], rule)
            chunk.places = [place for place, _ in part]
            yield chunk


def _factors(members: Sequence[Member], role: Role, rule: Rule) -> Iterator[Factor]:
    """Yield the factors of one role, with the step number."""
    for member in members:
        factor = factor_of(member, role)
        factor.partner = member.pair.up
        # The solver multiplies matrices of both.
        factor.dtype = work_dtype(member.pair.up, member.pair.down)
        if rule.counts_steps:
            factor.step = member.taken + 1
            factor.skipped = member.skipped
        yield factor


def _runs(places: Sequence[int]) -> Iterator[tuple[int, int, int]]:
    """Return (first place, first index, length) of each run of consecutive places."""
    start = 0
    for end in range(1, len(places) + 1):
        if end == len(places) or places[end] != places[end - 1] + 1:
            yield places[start], start, end - start
            start = end


def _in_order(chunks: Sequence[Chunk]) -> Core:
    """Return the first-pass results of all chunks, in the order of the pairs.

    Slices are used instead of indices, which would have to be copied to the device.
    """
    runs = sorted(
        (place, index, length, number)
        for number, chunk in enumerate(chunks)
        for place, index, length in _runs(chunk.places)
    )
    # Usually whole chunks, one after the other.
    whole = all(size == len(chunks[n].factors) for _, _, size, n in runs)
    return {
        name: _joined(
            [
                chunks[n].core[name] if whole else chunks[n].core[name][i : i + size]
                for _, i, size, n in runs
            ]
        )
        for name in chunks[0].core
    }


def _parts(core: Core, chunks: Sequence[Chunk]) -> Iterator[Core]:
    """Yield the rows of the solver's results that belong to each chunk."""
    places = [place for chunk in chunks for place in chunk.places]
    if places == list(range(len(places))):
        return _split(core, chunks)
    return (_taken(core, chunk.places) for chunk in chunks)


def _split(core: Core, chunks: Sequence[Chunk]) -> Iterator[Core]:
    """Yield the rows of each chunk, in the order of the chunks, without copies."""
    sizes = [len(chunk.places) for chunk in chunks]
    split = {name: matrix.split(sizes) for name, matrix in core.items()}
    for number in range(len(chunks)):
        yield {name: parts[number] for name, parts in split.items()}


def _taken(core: Core, places: Sequence[int]) -> Core:
    """Return the rows at the given places. Consecutive ones are not copied."""
    runs = list(_runs(places))
    return {
        name: _joined([matrix[p : p + size] for p, _, size in runs])
        for name, matrix in core.items()
    }


def _joined(parts: list[Tensor]) -> Tensor:
    return parts[0] if len(parts) == 1 else torch.cat(parts)


def _joint_lr(members: Sequence[Member], like: Tensor) -> Tensor:
    """Return the learning rate of the product: geometric mean of those of A and B."""
    up = column([member.up_group["lr"] for member in members], like)
    # Identity instead of equality: comparing tensors on a device would synchronize.
    if all(m.up_group["lr"] is m.down_group["lr"] for m in members):
        return up
    down = column([member.down_group["lr"] for member in members], like)
    # Equal rates are not changed, since sqrt(lr * lr) may round differently.
    return torch.where(up == down, up, (up * down).sqrt())
