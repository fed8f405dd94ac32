"""One optimizer class for every method on (B, A) pairs.

``PairOptimizer`` finds the pairs, sorts them into buckets of one shape, calls the
method's rule once per bucket on stacked tensors, and writes back. It owns what all
methods share: groups, state, checkpoints, missing gradients, the entry gauge, and
AdamW for whatever has no pair. Parameters are never re-pointed.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from .._exceptions import OptionError
from ..geometry import full_precision
from ..methods import check_options, method
from ._adamw import adamw_step
from ._buckets import bucketed, chunked, column, gather, scatter
from ._groups import Source, named_groups
from ._members import (
    Member,
    advance,
    bucket_key,
    gather_state,
    ready_members,
    state_tensors,
    translate_state,
)
from .alpha import settle_alpha
from .gauge import needs_gauge, orthonormal_start, stiefel_gauge
from .pairs import Pair, find_pairs
from .rule import PairBatch, Rule

__all__ = ["PairOptimizer"]

log = logging.getLogger("stiefel_lora")


class PairOptimizer(torch.optim.Optimizer):
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

    method: str
    rule: Rule

    def __init__(
        self, params: Source, lr: float | Tensor, options: dict[str, Any]
    ) -> None:
        entry = method(self.method)
        check_options(entry, options)
        _check_lr(lr)
        if entry.alpha_policy == "rank":
            settle_alpha(params)
        self._pairs: list[Pair] = []
        self._rest: list[tuple[str, Tensor]] = []
        self._gauge_pending = True
        super().__init__(named_groups(params), {"lr": lr, **options})
        self._log_pairs()

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
        self._gauge_pending = True

    def _log_pairs(self) -> None:
        log.info("%s trains %d LoRA pairs.", type(self).__name__, len(self._pairs))
        if self._rest:
            names = [name for name, _ in self._rest]
            shown = ", ".join(names[:3]) + (", ..." if len(names) > 3 else "")
            log.warning(
                "%s: %d of %d parameters belong to no LoRA pair that it can train and "
                "take AdamW: %s",
                type(self).__name__,
                len(names),
                len(names) + 2 * len(self._pairs),
                shown,
            )

    @torch.no_grad()
    def step(self, closure: Callable[[], Any] | None = None) -> Any:
        """Update every pair whose two gradients exist, and the rest by AdamW."""
        loss = None
        if closure is not None:
            with torch.enable_grad():
                loss = closure()
        members = ready_members(self._pairs, self.param_groups, self.rule)
        if self._gauge_pending:
            members = self._enter_gauge(members)
        for bucket in bucketed(members, bucket_key):
            each = bucket[0].pair.up.numel() + bucket[0].pair.down.numel()
            for chunk in chunked(bucket, each):
                self._step_pairs(chunk)
        self._step_adamw(members)
        return loss

    def _enter_gauge(self, members: list[Member]) -> list[Member]:
        """Bring B of all pairs into the gauge; return the members that may step now.

        Gradients belong to the factors they were computed at, so they are translated;
        ``.grad`` stays as the caller left it.
        """
        self._gauge_pending = False
        if not self.rule.orthonormal_up:
            return members
        by_pair = {id(member.pair): member for member in members}
        for pair in self._pairs:
            _check_dtype(pair)
            if not needs_gauge(pair.up):
                continue
            member = by_pair.get(id(pair))
            if not pair.up.any():
                orthonormal_start(pair.up, pair.down, pair.name)
                # The gradients of B = 0 say nothing about the new point.
                by_pair.pop(id(pair), None)
                continue
            gauge = stiefel_gauge(pair.up, pair.down)
            translate_state(gauge, self.state, pair)
            if member is not None:
                member.grad_up = gauge.to_up(member.grad_up)
                member.grad_down = gauge.to_down(member.grad_down)
        return [member for member in members if id(member.pair) in by_pair]

    def _step_pairs(self, chunk: list[Member]) -> None:
        rule, choices = self.rule, chunk[0].choices
        shapes = rule.states(choices)
        steps = [advance(self.state, member, shapes) for member in chunk]
        ups = [member.pair.up for member in chunk]
        downs = [member.pair.down for member in chunk]
        up = gather(ups, ups[0].dtype)
        numbers = [rule.numbers(member.up_group) for member in chunk]
        batch = PairBatch(
            up=up,
            down=gather(downs, up.dtype),
            grad_up=gather([member.grad_up for member in chunk], up.dtype),
            grad_down=gather([member.grad_down for member in chunk], up.dtype),
            state=gather_state(self.state, chunk, shapes),
            lr_up=_lr_column([m.up_group["lr"] for m in chunk], up),
            lr_down=_lr_column([m.down_group["lr"] for m in chunk], up),
            step=column(steps, up),
            numbers={k: column([n[k] for n in numbers], up) for k in numbers[0]},
            choices=choices,
        )
        with full_precision(up.device.type):
            rule.update(batch)
        scatter(batch.up, ups)
        if not rule.adamw_down(choices):
            scatter(batch.down, downs)
        for name, shape in shapes.items():
            targets = state_tensors(self.state, chunk, name, shape)
            scatter(batch.state[name], targets)

    def _step_adamw(self, members: list[Member]) -> None:
        """AdamW for A where the rule says so, and for what has no pair.

        Magnitudes, biases and norms do not decay.
        """
        factors = {
            id(member.pair.down): member.grad_down
            for member in members
            if self.rule.adamw_down(member.choices)
        }
        rest = {id(p): p.grad for _, p in self._rest if p.grad is not None}
        for group in self.param_groups:
            ratio = self.rule.rest_lr_ratio(group)
            others = [p for p in group["params"] if id(p) in rest]
            decaying = [p for p in others if _decays(p)]
            fixed = [p for p in others if not _decays(p)]
            own = [p for p in group["params"] if id(p) in factors]
            self._adamw(group, own, factors, 1.0, group["weight_decay"])
            self._adamw(group, decaying, rest, ratio, group["weight_decay"])
            self._adamw(group, fixed, rest, ratio, 0.0)

    def _adamw(
        self,
        group: dict[str, Any],
        params: list[Tensor],
        grads: dict[int, Tensor],
        lr_ratio: float,
        weight_decay: float,
    ) -> None:
        for bucket in bucketed(params, lambda p: (p.device, p.dtype)):
            adamw_step(
                bucket,
                [grads[id(p)] for p in bucket],
                [self.state[p] for p in bucket],
                group,
                lr=group["lr"] * lr_ratio,
                weight_decay=weight_decay,
            )

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
        self._gauge_pending = True

    def __getstate__(self) -> dict[str, Any]:
        own = ("_pairs", "_rest", "_gauge_pending")
        return {**super().__getstate__(), **{k: self.__dict__[k] for k in own}}


def _lr_column(values: list[float | Tensor], like: Tensor) -> Tensor:
    """Learning rates as ``(K, 1, 1)``; a tensor rate stays on its device."""
    if any(isinstance(value, Tensor) for value in values):
        parts = [torch.as_tensor(v, device=like.device).to(like) for v in values]
        return torch.stack([part.reshape(1, 1) for part in parts])
    return column([float(value) for value in values], like)


def _decays(param: Tensor) -> bool:
    return param.dim() > 1 and not getattr(param, "_is_dora_scale", False)


def _check_dtype(pair: Pair) -> None:
    if pair.up.dtype in (torch.float32, torch.float64):
        return
    kind = str(pair.up.dtype).removeprefix("torch.")
    raise OptionError(
        f"B of {pair.name!r} is {kind}, which can not hold an orthonormal factor; keep "
        "the LoRA parameters in float32 (the base model may stay as it is)."
    )


def _check_lr(lr: float | Tensor) -> None:
    if isinstance(lr, Tensor):
        return
    if not 0.0 <= lr < float("inf"):
        raise OptionError(f"lr={lr!r} must be a number in [0, inf).")
