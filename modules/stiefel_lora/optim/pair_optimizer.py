"""One optimizer class for every method on (B, A) pairs.

``PairOptimizer`` finds the pairs, sorts them into buckets of one shape, calls the
method's rule once per bucket on stacked tensors, and writes back. It owns what all
methods share: groups, state, checkpoints, missing gradients, the entry gauge, and
AdamW for whatever has no pair. Parameters are never re-pointed.
"""

from __future__ import annotations

import dataclasses
import logging
from collections.abc import Callable, Iterator, Mapping
from statistics import median
from typing import Any

import torch
from torch import Tensor, nn

from ..geometry import full_precision
from ..methods import check_options, method
from ._alone import LoneSteps
from ._batch import stack_pairs, step_usable, write_back, write_gradients
from ._gradient_watch import Watch
from ._groups import Source, check_group, named_groups
from ._master_weights import open_masters, round_masters, values
from ._members import STEP, Member, bucket_key, free_half, ready_members
from ._plain import plain_factors, step_plain
from ._refusals import (
    check_agreement,
    check_found,
    check_lr,
    check_ownership,
    check_whole,
)
from ._reports import FirstSteps, log_joint, log_pairs, log_replaced
from ._saved_state import check_shapes, check_state, fill_options, keep_dtypes
from ._two_passes import factors_of, step_factors, step_together
from .alpha import settle_alpha
from .gauge import needs_gauge
from .host_points import check_host
from .pairs import Pair, PairMap, find_pairs, odd_ones
from .rule import ROLES, Rule
from .stacking import bucketed, chunked

__all__ = ["PairOptimizer"]

log = logging.getLogger("stiefel_lora")


class PairOptimizer(LoneSteps):
    """Base of all methods; a subclass names its catalogue entry and its rule.

    Args:
        params: a module, tensors, ``(name, tensor)`` pairs or groups of either. With
            names, or from a module, pairs are certain; without, see
            :func:`~stiefel_lora.optim.pairs.find_pairs`.
        lr: learning rate in the unit of the method.
        options: every option of the catalogue entry. Groups may override any of them.

    Raises:
        OptionError: option unknown or out of bounds, or nothing to optimise.
        PairingError: ambiguous pairs, or none at all.
    """

    _width: float
    _waiting: bool = False

    def __init__(
        self, params: Source, lr: float | Tensor, options: dict[str, Any]
    ) -> None:
        entry = method(self.method)
        check_options(entry, options)
        check_lr(lr)
        groups = named_groups(params)
        super().__init__(groups, {"lr": lr, **options})
        self._odd = odd_ones(params) if isinstance(params, nn.Module) else []
        found = self._find_pairs()
        # Last of what can be refused, since it changes the model.
        settle_alpha(entry, params, groups)
        self._log_pairs(found)
        self._first_steps = FirstSteps(type(self).__name__, entry, self.param_groups)

    @property
    def pairs(self) -> list[Pair]:
        """The pairs that the method trains, in order of appearance."""
        return list(self._pairs)

    def add_param_group(self, param_group: dict[str, Any]) -> None:
        """Add a group; its options are checked and pairs are looked for again."""
        check_group(method(self.method), param_group, self.defaults)
        check_lr(param_group.get("lr", 0.0))
        super().add_param_group(param_group)
        check_whole(self.param_groups[-1]["params"], type(self).__name__)
        check_host(self.param_groups[-1]["params"], type(self).__name__)
        # Torch's constructor adds the groups one by one; pairs may span them.
        if hasattr(self, "_pairs"):
            self._log_pairs(self._find_pairs())

    def _find_pairs(self) -> PairMap:
        found = find_pairs(self.param_groups, self._odd)
        if len(self.rule.adamw_roles(self.defaults)) == len(ROLES):
            found = _with_odd(found)
        check_found(found, type(self).__name__)
        self._waiting = not found.pairs and found.waiting
        self._pairs = [pair for pair in found.pairs if not pair.too_wide]
        for pair in found.pairs:
            if pair.too_wide:
                out, into = _sides(pair)
                reason = f"rank {pair.rank} exceeds the layer of {out} x {into}"
                for role in ROLES:
                    factor = getattr(pair, role)
                    found.rest.append((f"{pair.name}.{role}", factor))
                    found.reasons[id(factor)] = reason
        check_agreement(self._pairs, self._owners(), self.defaults, self.rule)
        self._rest = found.rest
        self._begin_anew()
        if "_watch" in self.__dict__:
            self._watch.save(self.state)
        self._watch = Watch(self._pairs)
        self._watch.load(self.state)
        self.__dict__.pop("_place", None)
        sides = [side for pair in self._pairs for side in _sides(pair)]
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
        """Group of every parameter, by id."""
        return {id(p): group for group in self.param_groups for p in group["params"]}

    @torch.no_grad()
    def step(self, closure: Callable[[], Any] | None = None) -> Any:
        """Update every pair whose two gradients exist, and the rest by AdamW.

        Of a pair with one frozen factor, AdamW moves the other one.

        Raises:
            PairingError: named factors whose partners were in no group until now.
        """
        if self._waiting:
            found = find_pairs(self.param_groups, self._odd)
            check_found(found, type(self).__name__, last=True)
        loss = None
        if closure is not None:
            with torch.enable_grad():
                loss = closure()
        owners = self._owners()
        check_ownership(self._pairs, owners, type(self).__name__)
        self._note_free_halves(owners)
        for index in self._watch.zeroed():
            self._settled[index] = False
        ready = ready_members(self._pairs, owners, self.rule)
        members = self._settle(ready)
        self._watch.look(self.state, members, self.rule)
        joint = self._measure(members)
        self._move(members, joint)
        factors = plain_factors(self._pairs, members, owners, self.rule)
        step_plain(
            self.state,
            self.param_groups,
            self.rule,
            self._rest,
            factors,
            self._watch.found,
        )
        round_masters(self.state, (f for p in self._pairs for f in (p.up, p.down)))
        self._note_marks()
        if not self._first_steps.over:
            moved = {id(factor) for factor, _, _ in factors}
            moved |= {id(member.pair.up) for member in ready}
            trained = [p.name for p in self._pairs if moved & {id(p.up), id(p.down)}]
            self._first_steps.end_step(trained, self._pairs, self.param_groups)
        return loss

    def _move(self, members: list[Member], joint: Tensor | None) -> None:
        """Let the rule move its factors: each by itself, in passes, or pair by pair."""
        paired = [m for m in members if self.rule.solver(m.choices) is not None]
        single = [m for m in members if self.rule.solver(m.choices) is None]
        step_together(self.state, paired, self.rule)
        own = list(factors_of(single, self.rule))
        step_factors(self.state, own, self.rule)
        for chunk in _chunks([] if own else single):
            self._step_pairs(chunk, joint)

    def _note_free_halves(self, owners: Mapping[int, dict[str, Any]]) -> None:
        """Let pairs with one frozen factor leave the gauge, and report them once."""
        found = [
            index
            for index, pair in enumerate(self._pairs)
            if free_half(pair) and len(self.rule.adamw_roles(owners[id(pair.up)])) < 2
        ]
        self._leave_to_adamw(found)

    def _settle(self, members: list[Member]) -> list[Member]:
        """Prepare pairs that are new or were loaded; return those that may step."""
        fresh = [member for member in members if not self._is_settled(member.index)]
        if not fresh:
            return members
        # What starts at B = 0 comes by again next time, with gradients of its own.
        barred = {m.index for m in fresh if not self._enter_gauge(m)}
        self._log_restarted()
        fresh = [member for member in fresh if member.index not in barred]
        prepares = type(self.rule).prepare is not Rule.prepare
        for chunk in _chunks(fresh if prepares else []):
            batch = stack_pairs(self.state, chunk, self.rule, width=self._width)
            with full_precision(batch.up.device.type):
                allowed = self.rule.prepare(batch)
            write_back(self.state, chunk, self.rule, batch)
            write_gradients(chunk, batch)
            if allowed is not None:
                pairs = zip(chunk, allowed.tolist(), strict=True)
                barred |= {member.index for member, may in pairs if not may}
        for member in fresh:
            self._settled[member.index] = True
        return [member for member in members if member.index not in barred]

    def _enter_gauge(self, member: Member) -> bool:
        """Make B orthonormal where the rule needs it; False where no step can follow.

        Gradients belong to the factors they were computed at, so they are translated;
        ``.grad`` stays as the caller left it.
        """
        pair = member.pair
        open_masters(self.state, pair)
        if not self.rule.orthonormal_up or not needs_gauge(values(self.state, pair.up)):
            return True
        gauge = self._to_gauge(pair, member.choices)
        if gauge is None:
            # The gradients of B = 0 say nothing about the new point.
            return False
        member.grad_up = gauge.to_up(member.grad_up)
        member.grad_down = gauge.to_down(member.grad_down)
        return True

    def _measure(self, members: list[Member]) -> Tensor | None:
        """Sum what the rule measures over all pairs, on the first pair's device."""
        wanted = [m for m in members if self.rule.measures(m.up_group)]
        total: Tensor | None = None
        for chunk in _chunks(wanted):
            batch = stack_pairs(self.state, chunk, self.rule, width=self._width)
            with full_precision(batch.up.device.type):
                part = self.rule.measure(batch).sum(0, keepdim=True)
            total = part if total is None else total + part.to(total.device)
        return total

    def _step_pairs(self, chunk: list[Member], joint: Tensor | None) -> None:
        roles = self.rule.adamw_roles(chunk[0].up_group)
        if len(roles) == 2:
            return
        batch = stack_pairs(
            self.state, chunk, self.rule, width=self._width, joint=joint
        )
        batch.step += 1
        with full_precision(batch.up.device.type):
            step_usable(self.rule, batch)
        own = [role for role in ("up", "down") if role not in roles]
        write_back(self.state, chunk, self.rule, batch, own)
        torch._foreach_add_([self.state[m.pair.up][STEP] for m in chunk], 1)

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Load a state; its tensors keep their dtype and B is looked at again.

        Raises:
            CheckpointError: another method saved it, or it is that of other layers.
        """
        entry = method(self.method)
        check_state(state_dict, entry)
        check_shapes(state_dict, self.param_groups)
        before = [dict(group) for group in self.param_groups]
        super().load_state_dict(state_dict)
        log_replaced(type(self).__name__, entry, before, self.param_groups)
        keep_dtypes(self.state, state_dict, self.param_groups)
        self._begin_anew()
        self._watch.load(self.state)

    def state_dict(self) -> dict[str, Any]:
        """The state, with how often each pair was left out (waits for the device)."""
        self._watch.save(self.state)
        return super().state_dict()

    def __getstate__(self) -> dict[str, Any]:
        own = ("_pairs", "_rest", "_settled", "_marks", "_sit_out", "_width")
        own = (*own, "_odd", "_waiting", "_frozen_seen", "_first_steps", "_watch")
        own = (*own, "_restarted")
        mine = {key: self.__dict__[key] for key in own if key in self.__dict__}
        return {**super().__getstate__(), **mine}

    def __setstate__(self, state: dict[str, Any]) -> None:
        super().__setstate__(state)
        for group in self.param_groups:
            fill_options(group, method(self.method), self.defaults)


def _with_odd(found: PairMap) -> PairMap:
    """Count factors as pairs whatever their layer makes of them."""
    taken = {id(p) for pair in found.odd for p in (pair.up, pair.down)}
    rest = [(name, p) for name, p in found.rest if id(p) not in taken]
    return dataclasses.replace(found, pairs=[*found.pairs, *found.odd], rest=rest)


def _chunks(members: list[Member]) -> Iterator[list[Member]]:
    """Members of one shape, in chunks of bounded memory."""
    for bucket in bucketed(members, bucket_key):
        each = bucket[0].pair.up.numel() + bucket[0].pair.down.numel()
        yield from chunked(bucket, each)


def _sides(pair: Pair) -> tuple[int, int]:
    up, down = pair.matrices
    return up.shape[0], down.shape[1]
