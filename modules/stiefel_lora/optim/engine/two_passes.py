"""Step factors in two passes: reduce all, solve once, move all."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from ...geometry import full_precision, polar_core
from ..rule import (
    ROLES,
    Core,
    FactorBatch,
    FactorRule,
    Number,
    Role,
    Rule,
    StateShape,
)
from .batching import Member, bucket_key, new_state, owner_of, work_dtype
from .master_weights import State, values
from .stacking import bucketed, chunked, column, gather, scatter

__all__ = [
    "ACCELERATOR",
    "LAYOUTS",
    "Factor",
    "factors_of",
    "step_factors",
    "step_together",
]


@dataclasses.dataclass(frozen=True)
class Layout:
    """Stacking of factors on one kind of device.

    Attributes:
        elements: maximum floats of one stack; a pass holds four such copies.
        in_pairs: the same where B and A step together. The r x r work of a round is
            many small calls, so fewer and larger rounds are faster.
        together: run the first pass on all stacks before any of them moves.
    """

    elements: int
    in_pairs: int
    together: bool


# Launches dominate the cost; stacks of 46 MB fill the device.
ACCELERATOR = Layout(elements=11 * 2**20, in_pairs=11 * 2**20, together=True)
LAYOUTS = {
    # A stack and its copies should stay in the CPU cache from one pass to the next.
    "cpu": Layout(elements=2**18, in_pairs=2**19, together=False)
}


@dataclasses.dataclass(eq=False)
class Factor:
    """One factor during a step."""

    role: Role
    tensor: Tensor
    grad: Tensor
    group: Mapping[str, Any]
    choices: dict[str, Any]
    up_group: Mapping[str, Any]
    usable: Tensor | None = None


@dataclasses.dataclass(eq=False)
class _Chunk:
    """Factors of one shape, their first-pass results and possibly their stack.

    Attributes:
        places: positions of the factors' pairs among those that step together.
    """

    factors: list[Factor]
    rule: FactorRule
    states: dict[str, StateShape]
    core: Core = dataclasses.field(default_factory=dict)
    places: list[int] = dataclasses.field(default_factory=list)
    batch: FactorBatch | None = None
    usable: Tensor | None = None
    before: dict[str, Tensor] = dataclasses.field(default_factory=dict)


def factors_of(
    members: Iterable[Member], rule: Rule, only: Role | None = None
) -> Iterator[Factor]:
    """Yield the factors that the rule itself moves, of one role or of both."""
    for member in members:
        pair = member.pair
        for role in rule.factor_rules(member.choices):
            if only not in (None, role):
                continue
            up = role == "up"
            yield Factor(
                role,
                pair.up if up else pair.down,
                member.grad_up if up else member.grad_down,
                member.up_group if up else member.down_group,
                member.choices,
                member.up_group,
                member.usable,
            )


def step_factors(state: State, factors: Sequence[Factor], rule: Rule) -> None:
    """Move factors in place and update their state."""
    buckets = bucketed(factors, _key)
    chunks = [_chunk(part, rule) for bucket in buckets for part in _cut(bucket)]
    for together in _rounds(chunks):
        # A single stack stays in memory; several are built again for the second pass.
        keep = len(together) == 1
        for chunk in together:
            if chunk.rule.looks:
                _look(state, chunk, rule, keep)
        _solve(together)
        for chunk in together:
            _move(state, chunk, rule)


def step_together(state: State, members: Sequence[Member], rule: Rule) -> None:
    """Move both factors of pairs whose rule has a solver, and update their state."""
    for together in _pair_rounds(members):
        ups, downs = ([*_role_chunks(together, role, rule)] for role in ROLES)
        # With several shapes, all stacks would be in memory until the solver is done.
        keep = len(ups) == len(downs) == 1
        for chunk in (*ups, *downs):
            _look(state, chunk, rule, keep)
        # B and A of one pair may be stacked with different pairs: B by its outputs, A
        # by its inputs. The solver gets both in the order of the pairs.
        seen_up, seen_down = _in_order(ups), _in_order(downs)
        numbers = [rule.numbers(member.up_group) for member in together]
        like = next(iter(seen_up.values()))
        solver = rule.solver(together[0].choices)
        assert solver is not None
        with full_precision(like.device.type):
            solved = solver(
                seen_up,
                seen_down,
                _joint_lr(together, like),
                {k: column([n[k] for n in numbers], like) for k in numbers[0]},
            )
        for chunks, core in zip((ups, downs), solved, strict=True):
            for chunk in chunks:
                chunk.core = _part(core, chunk)
                _move(state, chunk, rule)


def _pair_rounds(members: Sequence[Member]) -> Iterator[list[Member]]:
    """Groups of pairs that take each pass together, with equal shapes adjacent."""
    alike = (bucket for bucket in bucketed(members, bucket_key))
    ordered = [member for bucket in alike for member in bucket]
    for same in bucketed(ordered, _round_key):
        layout = _layout(same[0].pair.up)
        if layout.together:
            yield same
            continue
        for bucket in bucketed(same, bucket_key):
            pair = bucket[0].pair
            largest = max(pair.up.numel(), pair.down.numel())
            yield from chunked(bucket, largest, layout.in_pairs)


def _round_key(member: Member) -> tuple[Any, ...]:
    """Key of pairs whose r x r matrices can be stacked and that share a solver."""
    up, choices = member.pair.up, tuple(sorted(member.choices.items()))
    return up.shape[1], up.dtype, up.device, choices


def _role_chunks(members: Sequence[Member], role: Role, rule: Rule) -> Iterator[_Chunk]:
    """Stacks of one role, each with the positions of its factors among the members."""
    # Stacked by the shape of this factor alone: B depends on the outputs of a layer and
    # A on its inputs, so layers of different shapes often share one of the two stacks.
    placed = list(enumerate(factors_of(members, rule, role)))
    for bucket in bucketed(placed, lambda entry: _key(entry[1])):
        tensor = bucket[0][1].tensor
        for part in chunked(bucket, tensor.numel(), _layout(tensor).in_pairs):
            chunk = _chunk([factor for _, factor in part], rule)
            chunk.places = [place for place, _ in part]
            yield chunk


def _runs(places: Sequence[int]) -> Iterator[tuple[int, int, int]]:
    """(first place, first index, length) of each run of consecutive places."""
    start = 0
    for end in range(1, len(places) + 1):
        if end == len(places) or places[end] != places[end - 1] + 1:
            yield places[start], start, end - start
            start = end


def _in_order(chunks: Sequence[_Chunk]) -> Core:
    """Concatenate the first-pass matrices of all chunks in the order of the pairs.

    Uses slices of runs: an index list would have to be copied to the device.
    """
    runs = sorted(
        (place, index, length, number)
        for number, chunk in enumerate(chunks)
        for place, index, length in _runs(chunk.places)
    )
    return {
        name: _joined([chunks[n].core[name][i : i + size] for _, i, size, n in runs])
        for name in chunks[0].core
    }


def _part(core: Core, chunk: _Chunk) -> Core:
    """Rows of the solved matrices that belong to a chunk."""
    runs = list(_runs(chunk.places))
    return {
        name: _joined([matrix[p : p + size] for p, _, size in runs])
        for name, matrix in core.items()
    }


def _joined(parts: list[Tensor]) -> Tensor:
    return parts[0] if len(parts) == 1 else torch.cat(parts)


def _joint_lr(members: Sequence[Member], like: Tensor) -> Tensor:
    """Learning rate of the product: geometric mean of its factors' rates."""
    up = column([member.up_group["lr"] for member in members], like)
    # Identity instead of equality: comparing tensors on a device would synchronize.
    if all(m.up_group["lr"] is m.down_group["lr"] for m in members):
        return up
    down = column([member.down_group["lr"] for member in members], like)
    # Equal rates are kept as they are, since sqrt(lr * lr) may round differently.
    return torch.where(up == down, up, (up * down).sqrt())


def _key(factor: Factor) -> tuple[Any, ...]:
    tensor = factor.tensor
    choices = tuple(sorted(factor.choices.items()))
    shape = tensor.flatten(1).shape
    return factor.role, shape, tensor.dtype, tensor.device, choices


def _cut(bucket: list[Factor]) -> Iterator[list[Factor]]:
    tensor = bucket[0].tensor
    return chunked(bucket, tensor.numel(), _layout(tensor).elements)


def _chunk(factors: list[Factor], rule: Rule) -> _Chunk:
    role, choices = factors[0].role, factors[0].choices
    shapes = rule.states(choices).items()
    states = {name: shape for name, shape in shapes if owner_of(shape) == role}
    flags = [factor.usable for factor in factors if factor.usable is not None]
    usable = torch.stack(flags).view(-1, 1, 1) if flags else None
    own = rule.factor_rules(choices)[role]
    return _Chunk(factors, own, states, usable=usable)


def _rounds(chunks: list[_Chunk]) -> Iterator[list[_Chunk]]:
    """Groups of chunks that take each pass together."""
    for same in bucketed(chunks, lambda chunk: chunk.factors[0].tensor.device):
        if _layout(same[0].factors[0].tensor).together:
            yield same
        else:
            yield from ([chunk] for chunk in same)


def _layout(tensor: Tensor) -> Layout:
    return LAYOUTS.get(tensor.device.type, ACCELERATOR)


def _look(state: State, chunk: _Chunk, rule: Rule, keep: bool) -> None:
    batch = _stack(state, chunk, rule)
    chunk.before = dict(batch.state)
    with full_precision(batch.point.device.type):
        chunk.core = chunk.rule.look(batch)
    if not (keep and chunk.rule.moves_state):
        _write_state(state, chunk, batch)
    chunk.batch = batch if keep else None


def _solve(chunks: Sequence[_Chunk]) -> None:
    """Replace the Gram matrices of all chunks by polar cores, one call per rank."""
    waiting = [chunk for chunk in chunks if "gram" in chunk.core]
    for same in bucketed(waiting, lambda chunk: _gram_key(chunk.core["gram"])):
        # One call for all layers of a rank: the iteration consists of dozens of small
        # kernels, whose launches cost more than their arithmetic.
        grams = [chunk.core.pop("gram") for chunk in same]
        with full_precision(grams[0].device.type):
            polar = polar_core(torch.cat(grams))
        sizes = [len(gram) for gram in grams]
        for chunk, part in zip(same, polar.split(sizes), strict=True):
            chunk.core["polar"] = part


def _gram_key(gram: Tensor) -> tuple[Any, ...]:
    return gram.shape[-1], gram.dtype, gram.device


def _move(state: State, chunk: _Chunk, rule: Rule) -> None:
    # Drop the reference to the kept stack, so that it can be freed once it is used.
    kept, chunk.batch = chunk.batch, None
    batch = kept or _stack(state, chunk, rule)
    point = batch.point
    # Without a kept stack, the state was gathered again after the first pass wrote it.
    chunk.before = chunk.before if kept else dict(batch.state)
    with full_precision(batch.point.device.type):
        chunk.rule.move(batch, chunk.core)
    moved = _kept(chunk, batch.point, point)
    scatter(moved, [values(state, factor.tensor) for factor in chunk.factors])
    if chunk.rule.moves_state or not chunk.rule.looks:
        _write_state(state, chunk, batch)


def _kept(chunk: _Chunk, new: Tensor, old: Tensor) -> Tensor:
    """Select the moved factors; those that cannot take the step stay unchanged."""
    return new if chunk.usable is None else torch.where(chunk.usable, new, old)


def _stack(state: State, chunk: _Chunk, rule: Rule) -> FactorBatch:
    factors = chunk.factors
    dtype = work_dtype(factors[0].tensor)
    for factor in factors:
        for name, shape in chunk.states.items():
            if name not in state[factor.tensor]:
                state[factor.tensor][name] = new_state(shape, factor.tensor)
    # The float32 copies where there are any: steps below the spacing of bfloat16
    # accumulate there.
    point = gather([values(state, factor.tensor) for factor in factors], dtype)
    numbers = [_numbers(factor, rule) for factor in factors]
    return FactorBatch(
        point=point,
        grad=gather([factor.grad for factor in factors], dtype),
        state={
            name: gather([state[factor.tensor][name] for factor in factors], dtype)
            for name in chunk.states
        },
        lr=_number([factor.group["lr"] for factor in factors], point),
        numbers={k: _number([n[k] for n in numbers], point) for k in numbers[0]},
        choices=factors[0].choices,
    )


def _numbers(factor: Factor, rule: Rule) -> dict[str, float]:
    """Numbers of the factor's group; those of a pair are the ones of B's group."""
    own = rule.numbers(factor.group)
    if factor.up_group is factor.group:
        return own
    joint = rule.joint_numbers(factor.choices)
    pair = rule.numbers(factor.up_group)
    return {name: pair[name] if name in joint else own[name] for name in own}


def _write_state(state: State, chunk: _Chunk, batch: FactorBatch) -> None:
    for name in chunk.states:
        kept = _kept(chunk, batch.state[name], chunk.before[name])
        scatter(kept, [state[f.tensor][name] for f in chunk.factors])


def _number(given: Sequence[float | Tensor], like: Tensor) -> Number:
    """One number if all are equal; tensors are not read, which would synchronize."""
    first = given[0]
    if isinstance(first, Tensor) and all(number is first for number in given):
        return first.to(like)
    plain = not any(isinstance(number, Tensor) for number in given)
    if plain and all(number == first for number in given):
        return float(first)
    return column(given, like)
