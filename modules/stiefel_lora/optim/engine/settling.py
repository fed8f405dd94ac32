"""Preparation of pairs before their first step and after changes of the factors.

B is orthonormalized if the rule requires it, and :meth:`Rule.prepare` is called. A pair
is *settled* if this was done and its factors have not been changed since then by other
code. Loading a state, a cast, merging into the base model and in-place changes make it
necessary to prepare the pair again at the next step.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from torch import Tensor

from ...geometry import full_precision
from ..gauge import Gauge, enter_stiefel_gauge, needs_gauge
from ..pairs import Pair
from ..rule import HeldFactor, Role, Rule, StateShape
from .adamw_step import ADAMW_STATE
from .batching import Member, chunks_of, stack_pairs, write_back, write_gradients
from .master_weights import (
    State,
    forget,
    open_masters,
    round_masters,
    values,
    work_pair,
)
from .refusals import check_devices
from .reports import log_frozen, log_restarted

__all__ = ["Settling", "follow_device"]


class Settling:
    """Prepare the pairs of an optimizer when necessary.

    The rule is an argument of the methods and not an attribute, because rules of
    plugins cannot be pickled.

    Args:
        title: name of the optimizer in log messages.
    """

    def __init__(self, title: str) -> None:
        self._title = title
        self._pairs: list[Pair] = []
        self._settled: list[bool] = []
        self._marks: list[tuple[Any, ...]] = []
        self._sit_out: set[tuple[int, Role]] = set()
        self._restarted: list[str] = []
        self._frozen_seen = False

    def begin(self, pairs: Sequence[Pair]) -> None:
        """Mark every pair to be prepared before its next step."""
        self._pairs = list(pairs)
        self._settled = [False] * len(self._pairs)
        self.note_marks()
        self._sit_out = set()
        self._restarted = []

    def look_again(self, indices: Sequence[int]) -> None:
        """Mark the given pairs to be prepared before their next step."""
        for index in indices:
            self._settled[index] = False

    def leave_to_adamw(self, indices: Sequence[int]) -> None:
        """Stop preparing pairs with a frozen factor, and log them once."""
        self.look_again(indices)
        if indices and not self._frozen_seen:
            self._frozen_seen = True
            log_frozen(self._title, [self._pairs[index].name for index in indices])

    def note_marks(self, index: int | None = None) -> None:
        """Record the current factors of one or all pairs, to detect later changes."""
        if index is None:
            self._marks = [_marks_of(pair) for pair in self._pairs]
        else:
            self._marks[index] = _marks_of(self._pairs[index])

    @contextlib.contextmanager
    def own_change(self, index: int) -> Iterator[None]:
        """Change the factors of a pair without having to prepare it again."""
        self._is_settled(index)
        yield
        self.note_marks(index)

    def log_restarted(self) -> None:
        """Log the pairs that were initialized again in this step."""
        log_restarted(self._restarted)
        self._restarted = []

    def settle(
        self, state: State, members: list[Member], rule: Rule, width: float
    ) -> list[Member]:
        """Prepare pairs that are not settled. Return the pairs that can be updated.

        Args:
            state: state of the optimizer.
            members: pairs with both gradients.
            rule: update rule of the method.
            width: median number of inputs and outputs of the layers.
        """
        fresh = [member for member in members if not self._is_settled(member.index)]
        if not fresh:
            return members
        for member in fresh:
            follow_device(state, member.pair)
        # A pair that starts again from B = 0 steps next time, with new gradients.
        barred = {m.index for m in fresh if not self._enter_gauge(state, m, rule)}
        self.log_restarted()
        # They stay unsettled: the rule prepares them at that step, at their new point.
        fresh = [member for member in fresh if member.index not in barred]
        if type(rule).adopt is not Rule.adopt:
            for member in fresh:
                _adopt(state, member.pair, rule)
        # Stacking costs as much as a step, and most rules have nothing to prepare.
        prepares = type(rule).prepare is not Rule.prepare
        for chunk in chunks_of(fresh if prepares else []):
            batch = stack_pairs(state, chunk, rule, width=width)
            with full_precision(batch.up.device.type):
                allowed = rule.prepare(batch)
            write_back(state, chunk, rule, batch)
            write_gradients(chunk, batch)
            if allowed is not None:
                pairs = zip(chunk, allowed.tolist(), strict=True)
                barred |= {member.index for member, may in pairs if not may}
        for member in fresh:
            self._settled[member.index] = True
        return [member for member in members if member.index not in barred]

    def settle_alone(
        self, state: State, index: int, role: Role, rule: Rule, group: Mapping[str, Any]
    ) -> bool:
        """Prepare a pair. Return False if its factors must skip this step.

        If B is orthonormalized during a backward pass, the gradients belong to the old
        factors, and the gradient of the other factor is not available.
        """
        partner: Role = "down" if role == "up" else "up"
        if (index, role) in self._sit_out:
            self._sit_out.remove((index, role))
            return False
        if self._is_settled(index):
            return True
        self._settled[index] = True
        pair = self._pairs[index]
        follow_device(state, pair)
        open_masters(state, pair)
        # needs_gauge synchronizes the device, so settled pairs skip it.
        if not rule.orthonormal_up or not needs_gauge(values(state, pair.up)):
            return True
        self._to_gauge(state, pair, rule, rule.choices(group))
        round_masters(state, (pair.up, pair.down))
        # The partner's gradient of this backward pass was computed at the old factors,
        # so the partner skips one step. Its state was translated along with the pair.
        self._sit_out.add((index, partner))
        return False

    def _enter_gauge(self, state: State, member: Member, rule: Rule) -> bool:
        """Orthonormalize B if required. Return False if the pair must skip this step.

        The gradients were computed for the old factors, so they are transformed. The
        attribute ``.grad`` is not modified.
        """
        pair = member.pair
        # First, since the copy is what is checked: the bfloat16 parameter is
        # orthonormal to 4e-3 at best and would fail the check at every load.
        open_masters(state, pair)
        if not rule.orthonormal_up or not needs_gauge(values(state, pair.up)):
            return True
        gauge = self._to_gauge(state, pair, rule, member.choices)
        if gauge is None:
            # The gradients at B = 0 have no meaning at the new point.
            return False
        member.grad_up = gauge.to_up(member.grad_up)
        member.grad_down = gauge.to_down(member.grad_down)
        return True

    def _to_gauge(
        self, state: State, pair: Pair, rule: Rule, choices: dict[str, Any]
    ) -> Gauge | None:
        """Change the gauge of factors and moments. Return None if B is 0.

        If B is 0 after the first step, the LoRA was merged into the base model, and the
        state of the pair is reset.
        """
        # The float32 copies change, not their rounding: a bfloat16 B is orthonormal to
        # 4e-3 only.
        work = work_pair(state, pair)
        gauge = enter_stiefel_gauge(work.up, work.down, pair.name)
        if gauge is None:
            if forget(state, pair):
                self._restarted.append(pair.name)
            return None
        states = rule.states(choices).items()
        # Moments are gradients in the coordinates of the factors and transform with
        # them, so that momentum from before a merge or an average keeps its direction.
        moving = {k: v for k, v in states if k not in rule.gauge_free}
        _translate_state(gauge, state, pair, moving)
        return gauge

    def _is_settled(self, index: int) -> bool:
        """Return whether a pair is unchanged since the last step.

        Casts, moves to another device and in-place changes are detected, except for
        changes through ``.data``, which do not increment torch's version counter.
        """
        marks = _marks_of(self._pairs[index])
        if marks != self._marks[index]:
            self._marks[index], self._settled[index] = marks, False
        return self._settled[index]


def _adopt(state: State, pair: Pair, rule: Rule) -> None:
    """Convert the state of a pair that was saved by an older version."""
    up, down = (
        HeldFactor(values(state, factor).detach().flatten(1), state[factor])
        for factor in (pair.up, pair.down)
    )
    rule.adopt(up, down)


def follow_device(state: State, pair: Pair) -> None:
    """Move the states of a pair to the device of its factors, if those were moved."""
    check_devices(pair)
    for factor in (pair.up, pair.down):
        for key, value in state.get(factor, {}).items():
            # Step counts stay on the CPU, where reading them does not synchronize.
            moves = isinstance(value, Tensor) and "step" not in key
            if moves and value.device != factor.device:
                state[factor][key] = value.to(factor.device)


def _marks_of(pair: Pair) -> tuple[Any, ...]:
    up, down = pair.up, pair.down
    # Comparing versions reads no memory; comparing values would synchronize.
    return (
        *(up.dtype, down.dtype, up.device, down.device),
        *(up._version, down._version),
    )


def _translate_state(
    gauge: Gauge, state: State, pair: Pair, shapes: Mapping[str, StateShape]
) -> None:
    """Transform the moments of a pair to the coordinates of (Q, R A), in place.

    ``shapes`` contains the states of the rule that are transformed. AdamW moments of A
    are always transformed.
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
