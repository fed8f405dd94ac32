"""Updates of factors in two passes.

This module updates factors that do not depend on each other. :mod:`.together` uses the
same passes for pairs whose factors are updated jointly.
"""

from __future__ import annotations

import dataclasses
import itertools
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from ...geometry import full_precision, polar_core
from ..rule import (
    Core,
    FactorBatch,
    FactorRule,
    Number,
    Role,
    Rule,
    StateShape,
)
from .batching import Member, new_state, owner_of, work_dtype
from .master_weights import State, values
from .stacking import bucketed, chunked, column, scatter, seen

__all__ = [
    "ACCELERATOR",
    "LAYOUTS",
    "Chunk",
    "Factor",
    "cut_by",
    "factor_of",
    "factors_of",
    "layout_of",
    "look_at",
    "make_chunk",
    "move_chunk",
    "stack_key",
    "step_factors",
    "usable_of",
]


@dataclasses.dataclass(frozen=True)
class Layout:
    """Limits for stacking factors on one kind of device.

    Attributes:
        stack: maximum number of elements of a stack.
        stack_in_pairs: the same if B and A are updated jointly. A single factor is used
            without a copy.
        in_pairs: maximum number of elements of the larger factors in a round of pairs.
            A round makes many small calls on r x r matrices, so fewer and larger rounds
            are faster.
        together: whether the first pass runs on all factors before the second pass.
    """

    stack: int
    stack_in_pairs: int
    in_pairs: int
    together: bool


# Launches dominate the cost; stacks of 46 MB fill the device.
ACCELERATOR = Layout(11 * 2**20, 11 * 2**20, 11 * 2**20, together=True)
LAYOUTS = {
    # Products of single factors are as fast as those of stacks, which would be copies.
    # Where r x r work is not solved for all at once, stacks save calls. What the first
    # pass reads should stay in the CPU cache for the second.
    "cpu": Layout(2**18, 1, 2**21, together=False)
}


@dataclasses.dataclass(eq=False)
class Factor:
    """One factor during a step.

    Attributes:
        partner: B of the pair, if the rule of A uses states of B.
        dtype: dtype of the computation, if both factors of the pair are updated
            jointly. None means that of the factor.
        step: step number of the pair, including the steps in ``skipped``.
    """

    role: Role
    tensor: Tensor
    grad: Tensor
    group: Mapping[str, Any]
    choices: dict[str, Any]
    up_group: Mapping[str, Any]
    usable: Tensor | None = None
    partner: Tensor | None = None
    dtype: torch.dtype | None = None
    step: float = 0.0
    skipped: Tensor | float | None = None


@dataclasses.dataclass(eq=False)
class Chunk:
    """Factors of one shape, with their first-pass results.

    Attributes:
        places: positions of the pairs among all pairs that are updated together.
        counted: step numbers (``step``) and bias corrections, if they are computed for
            all of these pairs at once.
        point: stack of the factors before the first pass, if it was kept.
    """

    factors: list[Factor]
    rule: FactorRule
    states: dict[str, StateShape]
    core: Core = dataclasses.field(default_factory=dict)
    places: list[int] = dataclasses.field(default_factory=list)
    counted: Core = dataclasses.field(default_factory=dict)
    batch: FactorBatch | None = None
    usable: Tensor | None = None
    before: dict[str, Tensor] = dataclasses.field(default_factory=dict)
    point: Tensor | None = None


def factors_of(
    members: Iterable[Member], rule: Rule, only: Role | None = None
) -> Iterator[Factor]:
    """Yield the factors that the rule updates, of one role or of both."""
    for member in members:
        for role in rule.factor_rules(member.choices):
            if only in (None, role):
                yield factor_of(member, role)


def factor_of(member: Member, role: Role) -> Factor:
    """Return one factor of a pair."""
    pair, up = member.pair, role == "up"
    return Factor(
        role,
        pair.up if up else pair.down,
        member.grad_up if up else member.grad_down,
        member.up_group if up else member.down_group,
        member.choices,
        member.up_group,
        member.usable,
    )


def step_factors(state: State, factors: Sequence[Factor], rule: Rule) -> None:
    """Update factors and their state in place."""
    for together in _rounds(factors, rule):
        tensor = together[0].factors[0].tensor
        # A single stack stays in memory; several are built again for the second pass.
        keep = len(together) == 1
        with full_precision(tensor.device.type):
            for chunk in together:
                if chunk.rule.has_look:
                    look_at(state, chunk, rule, keep)
            _solve(together)
            for chunk in together:
                move_chunk(state, chunk, rule)


def stack_key(factor: Factor) -> tuple[Any, ...]:
    """Return the key of factors that can be stacked."""
    tensor = factor.tensor
    choices = tuple(sorted(factor.choices.items()))
    shape = tensor.flatten(1).shape
    return factor.role, shape, tensor.dtype, factor.dtype, tensor.device, choices


def make_chunk(factors: list[Factor], rule: Rule) -> Chunk:
    """Build a chunk of factors of one shape, without ``usable``."""
    role, choices = factors[0].role, factors[0].choices
    rules = rule.factor_rules(choices)
    shapes = rule.states(choices).items()
    # Shared states belong to B, but only the passes of A use them.
    shared = rules["down"].shared if "down" in rules else frozenset()
    states = {
        name: shape
        for name, shape in shapes
        if ("down" if name in shared else owner_of(shape)) == role
    }
    return Chunk(factors, rules[role], states)


def usable_of(items: Sequence[Factor | Member]) -> Tensor | None:
    """Return whether the gradients are finite, ``(K, 1, 1)``. None if all are."""
    flags = [item.usable for item in items if item.usable is not None]
    return torch.stack(flags).view(-1, 1, 1) if flags else None


def _rounds(factors: Sequence[Factor], rule: Rule) -> Iterator[list[Chunk]]:
    """Yield groups of chunks that are processed together."""
    for same in bucketed(factors, lambda factor: factor.tensor.device):
        layout = layout_of(same[0].tensor)
        buckets = bucketed(same, stack_key)
        rounds = [
            [make_chunk(part, rule)]
            for bucket in buckets
            for part in cut_by(bucket, layout.stack)
        ]
        for chunk in itertools.chain.from_iterable(rounds):
            chunk.usable = usable_of(chunk.factors)
        if layout.together:
            rounds = [[chunk for chunks in rounds for chunk in chunks]]
        yield from rounds


def cut_by(bucket: list[Factor], limit: int) -> Iterator[list[Factor]]:
    """Split factors of one shape into parts with a maximum number of elements."""
    return chunked(bucket, bucket[0].tensor.numel(), limit)


def layout_of(tensor: Tensor) -> Layout:
    """Return the limits for the device of a tensor."""
    return LAYOUTS.get(tensor.device.type, ACCELERATOR)


def look_at(
    state: State, chunk: Chunk, rule: Rule, keep: bool, width: float = 0.0
) -> None:
    """Run the first pass. Store its results in ``core``, and optionally the stack."""
    batch = _stack(state, chunk, rule, width)
    # A copy of the dict without copies of its tensors is enough: where a factor may
    # have to stay, the batch is not writable, so the rule replaces tensors.
    chunk.before, chunk.point = dict(batch.state), batch.point
    chunk.core = chunk.rule.look(batch)
    if rule.factorizes and chunk.usable is not None:
        # LAPACK raises an error for NaN, and one bad layer would stop the run. States
        # that are passed on stay finite: a step that is not taken never changes them.
        chunk.core = {
            name: m if name in batch.state else torch.where(chunk.usable, m, 0.0)
            for name, m in chunk.core.items()
        }
    # Without a kept stack, the second pass gathers factors and state again, so what the
    # first pass changed must be in them by then. With one, a state that move() changes
    # again is written once, at the end.
    if not keep and chunk.rule.look_moves:
        _write_point(state, chunk, _kept(chunk, batch.point, chunk.point))
    if chunk.rule.look_changes_state and not (keep and chunk.rule.moves_state):
        _write_state(state, chunk, batch)
    if keep:
        chunk.batch = batch
    else:
        chunk.before, chunk.point = {}, None


def _solve(chunks: Sequence[Chunk]) -> None:
    """Replace Gram matrices of all chunks by polar cores, with one call per rank."""
    waiting = [chunk for chunk in chunks if "gram" in chunk.core]
    for same in bucketed(waiting, lambda chunk: _gram_key(chunk.core["gram"])):
        # One call for all layers of a rank: the iteration consists of dozens of small
        # kernels, whose launches cost more than their arithmetic.
        grams = [chunk.core.pop("gram") for chunk in same]
        polar = polar_core(torch.cat(grams))
        sizes = [len(gram) for gram in grams]
        for chunk, part in zip(same, polar.split(sizes), strict=True):
            chunk.core["polar"] = part


def _gram_key(gram: Tensor) -> tuple[Any, ...]:
    return gram.shape[-1], gram.dtype, gram.device


def move_chunk(state: State, chunk: Chunk, rule: Rule, width: float = 0.0) -> None:
    """Run the second pass with ``core`` and write the factors back."""
    # Drop the reference to the kept stack, so that it can be freed once it is used.
    kept, chunk.batch = chunk.batch, None
    batch = kept or _stack(state, chunk, rule, width)
    point = chunk.point if kept else batch.point
    chunk.point = None
    # Without a kept stack, the state was gathered again after the first pass wrote it.
    chunk.before = chunk.before if kept else dict(batch.state)
    chunk.rule.move(batch, chunk.core)
    _write_point(state, chunk, _kept(chunk, batch.point, point))
    if chunk.rule.moves_state or not chunk.rule.has_look:
        _write_state(state, chunk, batch)


def _write_point(state: State, chunk: Chunk, moved: Tensor) -> None:
    scatter(moved, [values(state, factor.tensor) for factor in chunk.factors])


def _kept(chunk: Chunk, new: Tensor, old: Tensor | None) -> Tensor:
    """Return the new factors, and the old ones of pairs that skip this step."""
    if chunk.usable is None or old is None:
        return new
    return torch.where(chunk.usable, new, old)


def _stack(state: State, chunk: Chunk, rule: Rule, width: float) -> FactorBatch:
    factors = chunk.factors
    dtype = factors[0].dtype or work_dtype(factors[0].tensor)
    for name, shape in chunk.states.items():
        for holder in _holders(chunk, name, shape):
            if name not in state[holder]:
                state[holder][name] = new_state(shape, holder)
    # The float32 copies where there are any: steps below the spacing of bfloat16
    # accumulate there.
    point = seen([values(state, factor.tensor) for factor in factors], dtype)
    alike = all(f.group is factors[0].group for f in factors) and all(
        f.up_group is factors[0].up_group for f in factors
    )
    # Options are read once where all factors are in one group, as they usually are.
    read = factors[:1] if alike else factors
    numbers = [_numbers(factor, rule) for factor in read]
    bias: dict[str, Number] = {**chunk.counted}
    step = bias.pop("step") if bias else _step(factors, point)
    return FactorBatch(
        point=point,
        grad=seen([factor.grad for factor in factors], dtype),
        state={
            name: seen([h[name] for h in _states(state, chunk, name)], dtype)
            for name in chunk.states
        },
        lr=_number([factor.group["lr"] for factor in read], point),
        numbers={k: _number([n[k] for n in numbers], point) for k in numbers[0]},
        choices=factors[0].choices,
        step=step,
        bias=bias,
        width=width,
        writable=chunk.usable is None,
    )


def _numbers(factor: Factor, rule: Rule) -> dict[str, float]:
    """Return the numeric options of a factor. Joint options are those of B's group."""
    own = rule.numbers(factor.group)
    if factor.up_group is factor.group:
        return own
    joint = rule.joint_numbers(factor.choices)
    pair = rule.numbers(factor.up_group)
    return {name: pair[name] if name in joint else own[name] for name in own}


def _holders(chunk: Chunk, name: str, shape: StateShape) -> list[Tensor]:
    """Return the parameters under which a state of a chunk is stored."""
    lent = chunk.factors[0].role == "down" and owner_of(shape) == "up"
    if not lent:
        return [factor.tensor for factor in chunk.factors]
    found = [f.partner for f in chunk.factors if f.partner is not None]
    assert len(found) == len(chunk.factors), name
    return found


def _states(state: State, chunk: Chunk, name: str) -> list[dict[str, Any]]:
    return [state[holder] for holder in _holders(chunk, name, chunk.states[name])]


def _step(factors: Sequence[Factor], like: Tensor) -> Number:
    """Return the number of this step, without synchronizing the device."""
    skipped = [f.skipped for f in factors if isinstance(f.skipped, Tensor)]
    # At least 1: at 0, a bias correction divides by 1 - beta^0 = 0. Only a pair that
    # skips its first steps gets there, and its result is discarded.
    if not skipped:
        steps = [max(1.0, f.step - (f.skipped or 0.0)) for f in factors]
        return _number(steps, like)
    whole = column([factor.step for factor in factors], like)
    return (whole - torch.stack(skipped).to(whole).view(whole.shape)).clamp_min(1)


def _write_state(state: State, chunk: Chunk, batch: FactorBatch) -> None:
    for name in chunk.states:
        kept = _kept(chunk, batch.state[name], chunk.before[name])
        scatter(kept, [own[name] for own in _states(state, chunk, name)])


def _number(given: Sequence[float | Tensor], like: Tensor) -> Number:
    """Return a single value if all values are equal, without reading tensors."""
    first = given[0]
    if isinstance(first, Tensor) and all(number is first for number in given):
        return first.to(like)
    # A Python number where it is the same for all: it is passed to kernels as an
    # argument, and the fused AdamW kernel accepts nothing else.
    plain = not any(isinstance(number, Tensor) for number in given)
    if plain and all(number == first for number in given):
        return float(first)
    return column(given, like)
