"""Base class for optimizers that train the factors B and A of a LoRA as pairs.

``PairOptimizer`` finds the pairs, groups them by shape, calls the update rule of the
method once per shape on stacked tensors, and writes the results back. It handles
everything that is the same for all methods: parameter groups, state, checkpoints,
missing gradients, orthonormalization of B, and AdamW for parameters outside pairs.
Parameters are updated in place.

With a fused backward pass, a trainer updates each parameter as soon as its gradient is
complete and then frees the gradient. Methods whose factors are updated independently
support this (:meth:`PairOptimizer.step_parameter`).
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping, Sequence
from statistics import median
from typing import Any

import torch
from torch import Tensor, nn

from .._exceptions import OptionError
from ..geometry import full_precision
from ..methods import check_options, method
from .alpha import settle_alpha
from .engine.adamw_step import left_factors, step_lone_factor, step_lone_rest, step_rest
from .engine.batching import (
    STEP,
    Member,
    chunks_of,
    free_half,
    ready_members,
    stack_pairs,
    step_usable,
    write_back,
)
from .engine.gradient_watch import Watch, usable_gradient
from .engine.master_weights import round_masters, values
from .engine.refusals import (
    check_agreement,
    check_found,
    check_lr,
    check_ownership,
    check_whole,
)
from .engine.reports import (
    FirstSteps,
    log_joint,
    log_pairs,
    log_replaced,
)
from .engine.saved_state import (
    check_names,
    check_shapes,
    check_state,
    fill_options,
    keep_dtypes,
)
from .engine.settling import Settling
from .engine.together import step_together
from .engine.two_passes import Factor, factors_of, step_factors
from .group_checks import check_decay_of_pairs, check_saved_groups
from .groups import Source, named_groups
from .host_points import check_host
from .lora_optimizer import LoraOptimizer
from .pairs import Pair, PairMap, find_pairs, odd_ones
from .rule import ROLES, Role, Rule, StateShape

__all__ = ["PairOptimizer"]

log = logging.getLogger("stiefel_lora")

# Attributes that a copy or a pickle keeps, in addition to torch's groups and state.
_COPIED = (
    *("_pairs", "_rest", "_settling", "_width", "_odd", "_waiting", "_first_steps"),
    "_watch",
)


class PairOptimizer(LoraOptimizer):
    """Base class for all optimizers for LoRA pairs.

    A subclass defines its catalogue entry and its update rule.

    Args:
        params: a module, tensors, ``(name, tensor)`` pairs or groups of either. With a
            module or with names, the LoRA pairs are unambiguous. For tensors without
            names, see :func:`~stiefel_lora.optim.pairs.find_pairs`.
        lr: learning rate in the unit of the method.
        options: options of the method. Parameter groups may override them.

    Raises:
        OptionError: If an option is unknown or out of bounds, or there are no
            parameters.
        PairingError: If the pairs are ambiguous, or there are none.
    """

    rule: Rule

    _pairs: list[Pair]
    _rest: list[tuple[str, Tensor]]
    _width: float
    _waiting: bool = False
    """Whether a group that is added later may contain the other factors of a pair."""

    _settling: Settling
    _place: dict[int, tuple[int, Role]]
    _first_steps: FirstSteps
    _watch: Watch

    def __init__(
        self, params: Source, lr: float | Tensor, options: dict[str, Any]
    ) -> None:
        entry = method(self.method)
        check_options(entry, options)
        check_lr(lr)
        groups = named_groups(params)
        super().__init__(groups, {"lr": lr, **options})
        # Only a module shows how its layers use the factors, such as one factor in
        # several layers. Tensors and names alone do not.
        self._odd = odd_ones(params) if isinstance(params, nn.Module) else []
        self._settling = Settling(type(self).__name__)
        found = self._find_pairs()
        # The last check, since it changes the model.
        settle_alpha(entry, params, groups)
        self._log_pairs(found)
        self._first_steps = FirstSteps(type(self).__name__, entry, self.param_groups)

    @property
    def pairs(self) -> list[Pair]:
        """LoRA pairs that the method trains, in order of appearance."""
        return list(self._pairs)

    def add_param_group(self, param_group: dict[str, Any]) -> None:
        """Add a parameter group, check its options and search for pairs again."""
        self._check_new_group(param_group)
        super().add_param_group(param_group)
        check_whole(self.param_groups[-1]["params"], type(self).__name__)
        check_host(self.param_groups[-1]["params"], type(self).__name__)
        # Torch's constructor adds the groups one by one; pairs may span them.
        if hasattr(self, "_pairs"):
            self._log_pairs(self._find_pairs())

    def _find_pairs(self) -> PairMap:
        found = find_pairs(self.param_groups, self._odd)
        # A method that leaves both factors to AdamW treats them separately, so it does
        # not matter how the layer combines them.
        if len(self.rule.adamw_roles(self.defaults)) == len(ROLES):
            found = found.with_odd()
        check_found(found, type(self).__name__)
        self._waiting = not found.pairs and found.waiting
        self._pairs = [pair for pair in found.pairs if not pair.too_wide]
        for pair in found.pairs:
            if pair.too_wide:
                out, into = pair.sides
                reason = (
                    f"the rank {pair.rank} exceeds the size of the layer "
                    f"({out} x {into})"
                )
                for role in ROLES:
                    factor = getattr(pair, role)
                    found.rest.append((f"{pair.name}.{role}", factor))
                    found.reasons[id(factor)] = reason
        check_agreement(self._pairs, self._owners(), self.defaults, self.rule)
        check_decay_of_pairs(self.entry, self._pairs, self._owners())
        self._rest = found.rest
        # The indices of pairs change here: what is kept by index is reset. Counts are
        # carried over through the state, which is kept by parameter.
        self._settling.begin(self._pairs)
        if "_watch" in self.__dict__:
            self._watch.save(self.state)
        self._watch = Watch(self._pairs)
        self._watch.load(self.state)
        self.__dict__.pop("_place", None)
        # The median: a UNet has no hidden size.
        sides = [side for pair in self._pairs for side in pair.sides]
        self._width = float(median(sides)) if sides else 0.0
        return found

    def _log_pairs(self, found: PairMap) -> None:
        log_pairs(
            type(self).__name__,
            self._pairs,
            self._rest,
            found.reasons,
            self.param_groups,
            self.rule,
        )
        log_joint(type(self).__name__, self._pairs, self._owners(), self.rule)

    def _owners(self) -> dict[int, dict[str, Any]]:
        """Return the group of every parameter, by id."""
        return {id(p): group for group in self.param_groups for p in group["params"]}

    @torch.no_grad()
    def step(self, closure: Callable[[], Any] | None = None) -> Any:
        """Update all pairs that have both gradients, and other parameters with AdamW.

        If one factor of a pair is frozen, the other one is updated with AdamW.

        Raises:
            OptionError: If a learning rate or an option is out of bounds.
            PairingError: If the parameter groups do not contain both factors of any
                layer.
        """
        changed = self._check_groups()
        if self._waiting:
            # A host may add the two factors of a layer in two groups, one after the
            # other, so a missing partner is an error only now.
            found = find_pairs(self.param_groups, self._odd)
            check_found(found, type(self).__name__, last=True)
        loss = None
        if closure is not None:
            with torch.enable_grad():
                loss = closure()
        # Built again at every step: load_state_dict and some hosts replace the group
        # dicts, and an old one would keep its old learning rate.
        owners = self._owners()
        check_ownership(self._pairs, owners, type(self).__name__)
        if changed:
            check_agreement(self._pairs, owners, self.defaults, self.rule)
        # The order matters. Pairs leave the gauge before it is checked. B is made
        # orthonormal before gradients are judged, since a change of gauge rescales
        # them. The joint measure needs all pairs of the step, so no pair moves before
        # it is complete.
        self._settling.leave_to_adamw(self._free_halves(owners))
        self._settling.look_again(self._watch.zeroed())
        ready = ready_members(self._pairs, owners, self.rule)
        members = self._settling.settle(self.state, ready, self.rule, self._width)
        self._watch.look(self.state, members, self.rule)
        joint = self._measure(members)
        self._move(members, joint)
        factors = left_factors(self._pairs, members, owners, self.rule)
        step_rest(
            self.state,
            self.param_groups,
            self.rule,
            self._rest,
            factors,
            self._watch.found,
        )
        # Marks are noted last: rounding the float32 copies into the parameters counts
        # as a write, and would look like a change from outside at the next step.
        round_masters(self.state, (f for p in self._pairs for f in (p.up, p.down)))
        self._settling.note_marks()
        if not self._first_steps.over:
            moved = {id(factor) for factor, _, _ in factors}
            moved |= {id(member.pair.up) for member in ready}
            trained = [p.name for p in self._pairs if moved & {id(p.up), id(p.down)}]
            self._first_steps.end_step(trained, self._pairs, self.param_groups)
        return loss

    def _move(self, members: list[Member], joint: Tensor | None) -> None:
        """Apply the update rule to factors separately, in two passes, or to pairs."""
        # Groups of one optimizer may differ here: whether there is a solver depends on
        # options.
        paired = [m for m in members if self.rule.solver(m.choices) is not None]
        single = [m for m in members if self.rule.solver(m.choices) is None]
        step_together(self.state, paired, self.rule, self._width)
        # A rule has either factor rules or update(), for all of its pairs.
        own = list(factors_of(single, self.rule))
        step_factors(self.state, own, self.rule)
        for chunk in chunks_of([] if own else single):
            self._step_pairs(chunk, joint)

    def _free_halves(self, owners: Mapping[int, dict[str, Any]]) -> list[int]:
        """Return the pairs with one frozen factor that the rule would update."""
        return [
            index
            for index, pair in enumerate(self._pairs)
            if free_half(pair) and len(self.rule.adamw_roles(owners[id(pair.up)])) < 2
        ]

    def _measures(self, member: Member) -> bool:
        """Return whether the measure of a pair is needed before the update."""
        alone = self.rule.solver(member.choices) is None
        return alone and self.rule.measures(member.up_group)

    def _measure(self, members: list[Member]) -> Tensor | None:
        """Sum the rule's measure over all pairs, on the first pair's device."""
        wanted = [m for m in members if self._measures(m)]
        total: Tensor | None = None
        for chunk in chunks_of(wanted):
            batch = stack_pairs(self.state, chunk, self.rule, width=self._width)
            with full_precision(batch.up.device.type):
                part = self.rule.measure(batch).sum(0, keepdim=True)
            # The sum stays on the device: reading it would synchronize once a step.
            total = part if total is None else total + part.to(total.device)
        return total

    def _step_pairs(self, chunk: list[Member], joint: Tensor | None) -> None:
        roles = self.rule.adamw_roles(chunk[0].up_group)
        if len(roles) == 2:
            return
        batch = stack_pairs(
            self.state, chunk, self.rule, width=self._width, joint=joint
        )
        # The batch holds the number of this step; the state is incremented afterwards.
        batch.step += 1
        with full_precision(batch.up.device.type):
            step_usable(self.rule, batch)
        own = [role for role in ("up", "down") if role not in roles]
        write_back(self.state, chunk, self.rule, batch, own)
        # Also for pairs that skip this step, since only the device has their flags. The
        # skipped steps are subtracted where the count is used (steps_taken).
        torch._foreach_add_([self.state[m.pair.up][STEP] for m in chunk], 1)

    @torch.no_grad()
    def step_parameter(
        self, parameter: Tensor, group: dict[str, Any], index: int | None = None
    ) -> None:
        """Update one parameter as soon as its gradient is complete (fused backward).

        Args:
            parameter: parameter of this optimizer with its gradient.
            group: the parameter group that contains it.
            index: not used. It is accepted because trainers pass it.

        Raises:
            OptionError: If the method can only update both factors of a pair together,
                or the learning rate or an option is out of bounds.
        """
        self._group_checks.check(self.entry, [group], self.defaults)
        entry = method(self.method)
        if not entry.steps_alone(group):
            choice = entry.joint_choice(group)
            other = f", or set {choice[0].name}={choice[1]!r}" if choice else ""
            raise OptionError(
                f"{type(self).__name__} updates both factors of a LoRA pair "
                "together and does not support a fused backward pass. Disable the "
                f"fused backward pass{other}."
            )
        if parameter.grad is None:
            return
        place = self._places().get(id(parameter))
        if place is None:
            name = next(name for name, tensor in self._rest if tensor is parameter)
            step_lone_rest(self.state, self.rule, name, parameter, group)
            return
        index, role = place
        pair = self._pairs[index]
        usable = usable_gradient(parameter.grad)
        # A factor is judged by its own gradient: its partner is stepped elsewhere.
        self._watch.count_alone(index, usable)
        settling, by_adamw = self._settling, role in self.rule.adamw_roles(group)
        if free_half(pair) == role and not by_adamw:
            settling.leave_to_adamw([index])
            step_lone_factor(self.state, self.rule, role, parameter, group, usable)
        elif settling.settle_alone(self.state, index, role, self.rule, group):
            settling.log_restarted()
            if by_adamw:
                step_lone_factor(self.state, self.rule, role, parameter, group, usable)
            else:
                choices = self.rule.choices(group)
                one = (role, parameter, parameter.grad, group, choices, group, usable)
                step_factors(self.state, [Factor(*one)], self.rule)
            round_masters(self.state, (parameter,))
        # Of this pair alone: a change of another pair from outside must still be
        # visible when its own factors are stepped.
        settling.note_marks(index)
        self._first_steps.end_factor(pair.name, role, self._pairs, self.param_groups)

    def expect_missing_gradients(self) -> None:
        """Do not report pairs without gradients in the first steps."""
        self._first_steps.reports_idle = False

    @torch.no_grad()
    def scale_down(self, pair: Pair, factor: float) -> None:
        """Multiply A of a pair, and with it the product B A, by a positive factor.

        The state is transformed accordingly. Only used if B is orthonormal, see
        :func:`~stiefel_lora.optim.product_norms.scale_products`.
        """
        with self._settling.own_change(self._places()[id(pair.down)][0]):
            values(self.state, pair.down).mul_(factor)
            held = [self.state.get(half, {}) for half in (pair.up, pair.down)]
            for name, power in self.rule.scale_powers.items():
                for own in held:
                    if name in own:
                        own[name].mul_(factor**power)
            round_masters(self.state, [pair.down])

    def _places(self) -> dict[int, tuple[int, Role]]:
        """Return the index of the pair and the role of each factor, by its id."""
        if "_place" not in self.__dict__:
            self._place = {
                id(getattr(pair, role)): (index, role)
                for index, pair in enumerate(self._pairs)
                for role in ROLES
            }
        return self._place

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Load the state of the optimizer. Its tensors keep their dtypes.

        B is orthonormalized at the next step if necessary.

        Raises:
            CheckpointError: If the state belongs to another method or to other layers,
                or has an option out of bounds. The optimizer is not changed.
            OptionError: If the state has different choices for B and A of a pair.
        """
        entry = method(self.method)
        check_state(state_dict, entry)
        saved = [dict(group) for group in state_dict["param_groups"]]
        for group in saved:
            fill_options(group, entry, self.defaults)
        check_saved_groups(entry, saved, self.defaults)
        roles = {key: role for key, (_, role) in self._places().items()}
        shapes = self._state_shapes([*self.param_groups, *saved])
        check_shapes(state_dict, self.param_groups, shapes, roles)
        check_names(state_dict, self.param_groups)
        # Torch itself rejects a different number of groups.
        owners = {
            id(p): new
            for old, new in zip(self.param_groups, saved, strict=False)
            for p in old["params"]
        }
        if len(saved) == len(self.param_groups):
            check_agreement(self._pairs, owners, self.defaults, self.rule)
        # Copies, since loading replaces the options in the groups.
        before = [dict(group) for group in self.param_groups]
        super().load_state_dict(state_dict)
        for group, old in zip(self.param_groups, before, strict=True):
            if "param_names" in old:
                group["param_names"] = old["param_names"]
        log_replaced(type(self).__name__, entry, before, self.param_groups)
        keep_dtypes(self.state, state_dict, self.param_groups)
        # The loaded factors may come from another optimizer, an average or a file in
        # lower precision.
        self._settling.begin(self._pairs)
        self._watch.load(self.state)

    def _state_shapes(
        self, groups: Sequence[Mapping[str, Any]]
    ) -> dict[str, StateShape]:
        """Return the shapes of the states of the update rule by name.

        Includes states of other choices, since groups may have changed them.
        """
        shapes: dict[str, StateShape] = {}
        for group in groups:
            for option in method(self.method).options:
                values = (True, False) if option.type is bool else option.choices
                for value in (group[option.name], *values):
                    choices = self.rule.choices({**group, option.name: value})
                    shapes |= self.rule.states(choices)
        return shapes

    def state_dict(self) -> dict[str, Any]:
        """Return the state, including the skip count of each pair (synchronizes)."""
        self._watch.save(self.state)
        return super().state_dict()

    def __getstate__(self) -> dict[str, Any]:
        mine = {key: self.__dict__[key] for key in _COPIED if key in self.__dict__}
        return {**super().__getstate__(), **mine}

    def __setstate__(self, state: dict[str, Any]) -> None:
        super().__setstate__(state)
        for group in self.param_groups:
            fill_options(group, method(self.method), self.defaults)
