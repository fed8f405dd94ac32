"""One optimizer class for every method on (B, A) pairs.

``PairOptimizer`` finds the pairs, sorts them into buckets of one shape, calls the
method's rule once per bucket on stacked tensors, and writes back. It owns what all
methods share: groups, state, checkpoints, missing gradients, the entry gauge, and
AdamW for whatever has no pair. Parameters are never re-pointed.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator
from statistics import median
from typing import Any

import torch
from torch import Tensor

from ..geometry import full_precision
from ..methods import check_options, method
from ._alone import LoneSteps
from ._batch import stack_pairs, write_back, write_gradients
from ._factors import factors_of, step_factors, step_together
from ._groups import Source, is_magnitude, named_groups
from ._masters import open_masters, round_masters, values
from ._members import STEP, Member, bucket_key, ready_members
from ._plain import plain_factors, step_plain
from ._refusals import check_lr, check_ownership, check_whole
from .alpha import settle_alpha
from .buckets import bucketed, chunked
from .gauge import needs_gauge
from .host_points import check_host
from .pairs import Pair, find_pairs
from .rule import Rule

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
        PairingError: ambiguous pairs.
    """

    _width: float

    def __init__(
        self, params: Source, lr: float | Tensor, options: dict[str, Any]
    ) -> None:
        entry = method(self.method)
        check_options(entry, options)
        check_lr(lr)
        groups = named_groups(params)
        settle_alpha(entry, params, groups)
        super().__init__(groups, {"lr": lr, **options})
        self._find_pairs()
        self._log_pairs()
        self._log_rates()

    @property
    def pairs(self) -> list[Pair]:
        """The pairs that the method trains, in order of appearance."""
        return list(self._pairs)

    def add_param_group(self, param_group: dict[str, Any]) -> None:
        """Add a group; its options are checked and pairs are looked for anew."""
        known = {option.name for option in method(self.method).options}
        given = {k: v for k, v in param_group.items() if k in known}
        check_options(method(self.method), given)
        super().add_param_group(param_group)
        check_whole(self.param_groups[-1]["params"], type(self).__name__)
        check_host(self.param_groups[-1]["params"], type(self).__name__)
        # Torch's constructor adds the groups one by one; pairs may span them.
        if hasattr(self, "_pairs"):
            self._find_pairs()

    def _find_pairs(self) -> None:
        found = find_pairs(self.param_groups)
        self._pairs = [pair for pair in found.pairs if not pair.too_wide]
        wide = [pair for pair in found.pairs if pair.too_wide]
        self._rest = found.rest + [
            (f"{pair.name}.{role}", tensor)
            for pair in wide
            for role, tensor in (("up", pair.up), ("down", pair.down))
        ]
        self._begin_anew()
        self.__dict__.pop("_place", None)
        sides = [side for pair in self._pairs for side in _sides(pair)]
        self._width = float(median(sides)) if sides else 0.0

    def _log_pairs(self) -> None:
        log.info("%s trains %d LoRA pairs.", type(self).__name__, len(self._pairs))
        names = [name for name, tensor in self._rest if not is_magnitude(name, tensor)]
        if len(names) < len(self._rest):
            count = len(self._rest) - len(names)
            log.info("%d magnitudes of DoRA take AdamW without weight decay.", count)
        if names:
            shown = ", ".join(names[:3]) + (", ..." if len(names) > 3 else "")
            log.warning(
                "%s: %d of %d parameters belong to no LoRA pair that it can train and "
                "take AdamW: %s",
                type(self).__name__,
                len(names),
                len(names) + 2 * len(self._pairs),
                shown,
            )

    def _log_rates(self) -> None:
        """Report pairs whose step of the product has two learning rates to go by."""
        owners = {id(p): group for group in self.param_groups for p in group["params"]}
        apart = 0
        for pair in self._pairs:
            up, down = owners[id(pair.up)], owners[id(pair.down)]
            # A rate on an accelerator is not read, which would wait for it.
            known = not any(isinstance(g["lr"], Tensor) for g in (up, down))
            if known and up["lr"] != down["lr"]:
                apart += self.rule.solver(self.rule.choices(up)) is not None
        if apart:
            log.warning(
                "%s: %d LoRA %s two learning rates, one for B and one for A. A step of "
                "the product has one: their geometric mean is used.",
                type(self).__name__,
                apart,
                "pair has" if apart == 1 else "pairs have",
            )

    @torch.no_grad()
    def step(self, closure: Callable[[], Any] | None = None) -> Any:
        """Update every pair whose two gradients exist, and the rest by AdamW."""
        loss = None
        if closure is not None:
            with torch.enable_grad():
                loss = closure()
        owners = {id(p): group for group in self.param_groups for p in group["params"]}
        check_ownership(self._pairs, owners, type(self).__name__)
        members = self._settle(ready_members(self._pairs, owners, self.rule))
        joint = self._measure(members)
        self._move(members, joint)
        factors = plain_factors(self._pairs, members, owners, self.rule)
        step_plain(self.state, self.param_groups, self.rule, self._rest, factors)
        round_masters(self.state, (f for p in self._pairs for f in (p.up, p.down)))
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

    def _settle(self, members: list[Member]) -> list[Member]:
        """Prepare pairs that are new or were loaded; return those that may step."""
        fresh = [member for member in members if not self._is_settled(member.index)]
        if not fresh:
            return members
        # What starts at B = 0 comes by again next time, with gradients of its own.
        barred = {m.index for m in fresh if not self._enter_gauge(m)}
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
            self.rule.update(batch)
        own = [role for role in ("up", "down") if role not in roles]
        write_back(self.state, chunk, self.rule, batch, own)
        torch._foreach_add_([self.state[m.pair.up][STEP] for m in chunk], 1)

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Load a state; its tensors keep their dtype and B is looked at again.

        Torch casts loaded floating state to the parameter's dtype, which would turn
        float32 moments of a bfloat16 parameter into bfloat16.
        """
        super().load_state_dict(state_dict)
        saved = [i for group in state_dict["param_groups"] for i in group["params"]]
        params = [p for group in self.param_groups for p in group["params"]]
        for index, param in zip(saved, params, strict=True):
            for key, value in state_dict["state"].get(index, {}).items():
                if isinstance(value, Tensor):
                    device = value.device if "step" in key else param.device
                    self.state[param][key] = value.detach().clone().to(device)
        self._begin_anew()

    def __getstate__(self) -> dict[str, Any]:
        own = ("_pairs", "_rest", "_settled", "_dtypes", "_sit_out", "_width")
        return {**super().__getstate__(), **{k: self.__dict__[k] for k in own}}


def _chunks(members: list[Member]) -> Iterator[list[Member]]:
    """Members of one shape, in chunks of bounded memory."""
    for bucket in bucketed(members, bucket_key):
        each = bucket[0].pair.up.numel() + bucket[0].pair.down.numel()
        yield from chunked(bucket, each)


def _sides(pair: Pair) -> tuple[int, int]:
    up, down = pair.matrices
    return up.shape[0], down.shape[1]
