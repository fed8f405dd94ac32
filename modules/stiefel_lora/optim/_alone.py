"""Step a single parameter, while the backward pass goes on elsewhere.

Hosts with a fused back pass call the optimizer as soon as the gradient of a parameter
is complete, and free it afterwards. A separable method can follow: its factors do not
wait for each other.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from .._exceptions import OptionError
from ..methods import method
from ._gradient_watch import Watch, usable_gradient
from ._master_weights import forget, open_masters, round_masters, values, work_pair
from ._members import State, free_half, translate_state
from ._plain import step_plain
from ._reports import FirstSteps, log_frozen, log_restarted
from ._two_passes import Factor, step_factors
from .gauge import Gauge, enter_stiefel_gauge, needs_gauge
from .lora_optimizer import LoraOptimizer
from .pairs import Pair
from .rule import ROLES, Role, Rule

__all__ = ["LoneSteps"]


class LoneSteps(LoraOptimizer):
    """Steps of single parameters of a ``PairOptimizer``."""

    rule: Rule
    _pairs: list[Pair]
    _rest: list[tuple[str, Tensor]]
    _settled: list[bool]
    _marks: list[tuple[Any, ...]]
    _restarted: list[str]
    _sit_out: set[tuple[int, Role]]
    _place: dict[int, tuple[int, Role]]
    _first_steps: FirstSteps
    _frozen_seen: bool = False
    _watch: Watch

    @torch.no_grad()
    def step_parameter(
        self, parameter: Tensor, group: dict[str, Any], index: int | None = None
    ) -> None:
        """Update one parameter as soon as its gradient is complete (fused back pass).

        Args:
            parameter: one of this optimizer's, with its gradient.
            group: the parameter group that it is in.
            index: taken for the sake of hosts that pass it.

        Raises:
            OptionError: the method moves the two factors of a pair together.
        """
        if not method(self.method).steps_alone(group):
            raise OptionError(
                f"{type(self).__name__} moves the two factors of a pair together and "
                "can not step single parameters; switch the fused backward pass off."
            )
        if parameter.grad is None:
            return
        place = self._places().get(id(parameter))
        if place is None:
            name = next(name for name, tensor in self._rest if tensor is parameter)
            _step_rest(self.state, self.rule, name, parameter, group)
            return
        index, role = place
        pair = self._pairs[index]
        usable = usable_gradient(parameter.grad)
        self._watch.count_alone(index, usable)
        if free_half(pair) == role and role not in self.rule.adamw_roles(group):
            self._leave_to_adamw([index])
            _step_by_adamw(self.state, self.rule, role, parameter, group, usable)
        elif self._settle_alone(index, role, group):
            self._log_restarted()
            _step_factor(self.state, self.rule, role, parameter, group, usable)
            round_masters(self.state, (parameter,))
        self._marks[index] = _marks_of(pair)
        self._first_steps.end_factor(pair.name, role, self._pairs, self.param_groups)

    def _leave_to_adamw(self, indices: Sequence[int]) -> None:
        """Let pairs with one frozen factor leave the gauge; say so the first time."""
        for index in indices:
            self._settled[index] = False
        if indices and not self._frozen_seen:
            self._frozen_seen = True
            names = [self._pairs[index].name for index in indices]
            log_frozen(type(self).__name__, names)

    def _places(self) -> dict[int, tuple[int, Role]]:
        """Index of its pair and role, by the id of a factor."""
        if "_place" not in self.__dict__:
            self._place = {
                id(getattr(pair, role)): (index, role)
                for index, pair in enumerate(self._pairs)
                for role in ROLES
            }
        return self._place

    def _settle_alone(self, index: int, role: Role, group: dict[str, Any]) -> bool:
        """Bring a pair into the gauge; False where its factors sit this step out.

        The gradients of a backward pass in which the gauge changes belong to the old
        factors, and the partner's comes later or is gone already.
        """
        partner: Role = "down" if role == "up" else "up"
        if (index, role) in self._sit_out:
            self._sit_out.remove((index, role))
            return False
        if self._is_settled(index):
            return True
        self._settled[index] = True
        pair = self._pairs[index]
        open_masters(self.state, pair)
        if not self.rule.orthonormal_up or not needs_gauge(values(self.state, pair.up)):
            return True
        self._to_gauge(pair, self.rule.choices(group))
        round_masters(self.state, (pair.up, pair.down))
        self._sit_out.add((index, partner))
        return False

    def _to_gauge(self, pair: Pair, choices: dict[str, Any]) -> Gauge | None:
        """Change factors and moments of a pair; None where B was 0 and starts anew.

        After steps B = 0 is that of a merge into the base in place: what is known of
        the pair belongs to a product that is gone.
        """
        work = work_pair(self.state, pair)
        gauge = enter_stiefel_gauge(work.up, work.down, pair.name)
        if gauge is None:
            if forget(self.state, pair):
                self._restarted.append(pair.name)
            return None
        states = self.rule.states(choices).items()
        moving = {k: v for k, v in states if k not in self.rule.gauge_free}
        translate_state(gauge, self.state, pair, moving)
        return gauge

    def _log_restarted(self) -> None:
        """Log pairs that start again, all of a step in one line."""
        log_restarted(self._restarted)
        self._restarted = []

    def _begin_anew(self) -> None:
        """Look at every pair again before its next step."""
        self._settled = [False] * len(self._pairs)
        self._note_marks()
        self._sit_out = set()
        self._restarted = []

    def _note_marks(self) -> None:
        """Remember the factors as they are left."""
        self._marks = [_marks_of(pair) for pair in self._pairs]

    def _is_settled(self, index: int) -> bool:
        """Whether a pair is as it was left; one that was changed is looked at again.

        Casts are seen, and what was written in place. Only writes through ``.data``
        are not: torch does not count them.
        """
        marks = _marks_of(self._pairs[index])
        if marks != self._marks[index]:
            self._marks[index], self._settled[index] = marks, False
        return self._settled[index]


def _marks_of(pair: Pair) -> tuple[Any, ...]:
    up, down = pair.up, pair.down
    return up.dtype, down.dtype, up._version, down._version


def _step_factor(
    state: State,
    rule: Rule,
    role: Role,
    factor: Tensor,
    group: Mapping[str, Any],
    usable: Tensor,
) -> None:
    """Move B or A of a separable method by its own rule or by AdamW."""
    gradient = factor.grad
    assert gradient is not None
    if role in rule.adamw_roles(group):
        _step_by_adamw(state, rule, role, factor, group, usable)
        return
    own = Factor(role, factor, gradient, group, rule.choices(group), usable)
    step_factors(state, [own], rule)


def _step_by_adamw(
    state: State,
    rule: Rule,
    role: Role,
    factor: Tensor,
    group: Mapping[str, Any],
    usable: Tensor,
) -> None:
    """Move B or A by AdamW."""
    assert factor.grad is not None
    own = [{**group, "params": [factor]}]
    found = usable.logical_not().float()
    factors = [(factor, factor.grad, role)]
    step_plain(state, own, rule, [], factors, lambda _: found)


def _step_rest(
    state: State, rule: Rule, name: str, parameter: Tensor, group: Mapping[str, Any]
) -> None:
    """Move a parameter outside the pairs by AdamW."""
    own = [{**group, "params": [parameter]}]
    step_plain(state, own, rule, [(name, parameter)], [])
