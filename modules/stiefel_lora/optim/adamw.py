"""AdamW of torch with the option names of this package."""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor, nn

from .._exceptions import OptionError
from ..methods import check_options, decay_of, decays_apart, method
from .engine.adamw_step import adamw_step
from .engine.refusals import check_lr
from .engine.saved_state import check_shapes, check_state, keep_dtypes
from .engine.stacking import bucketed
from .group_checks import check_saved_groups
from .groups import Source, named_groups, spare_magnitudes
from .lora_optimizer import LoraOptimizer
from .pairs import find_pairs, odd_ones
from .rule import ROLES, Role

__all__ = ["AdamW", "SeparateBetas"]

_OWN = ("weight_decay_b", "weight_decay_a")
"""Options in parameter groups that torch's AdamW does not have."""


class SeparateBetas(LoraOptimizer):
    """Base class for AdamW variants with ``beta1`` and ``beta2`` instead of ``betas``.

    The options of parameter groups are checked.

    Args:
        params: model, named parameters, or iterable of parameters or parameter groups
            to optimize.
        lr: learning rate.
        weight_decay: decoupled weight decay, multiplied by lr. DoRA magnitudes do not
            decay.
        weight_decay_b: weight decay of B of LoRA pairs. The default is weight_decay.
        weight_decay_a: weight decay of A of LoRA pairs. The default is weight_decay.
        beta1: decay rate of the running average of the gradient.
        beta2: decay rate of the running average of the squared gradient.
        eps: term that is added to the square root of the second moment for numerical
            stability.

    Raises:
        OptionError: If lr or an option is out of bounds, or there are no parameters.
    """

    _tensor_rates: bool = True
    """Whether the underlying optimizer accepts a tensor as learning rate."""

    def __init__(
        self,
        params: Source,
        lr: float | Tensor = 1e-4,
        *,
        weight_decay: float = 0.0,
        weight_decay_b: float | None = None,
        weight_decay_a: float | None = None,
        beta1: float = 0.9,
        beta2: float = 0.999,
        eps: float = 1e-8,
    ) -> None:
        options: dict[str, object] = {
            "weight_decay": weight_decay,
            "weight_decay_b": weight_decay_b,
            "weight_decay_a": weight_decay_a,
            "beta1": beta1,
            "beta2": beta2,
            "eps": eps,
        }
        check_options(method(self.method), options)
        check_lr(lr)
        self._odd = odd_ones(params) if isinstance(params, nn.Module) else []
        # The constructor of a subclass's other base, with torch's option names.
        base: Callable[..., None] = super().__init__
        own = {name: options[name] for name in _OWN}
        base(
            [{**own, **group} for group in spare_magnitudes(named_groups(params))],
            lr=lr if self._tensor_rates else float(lr),
            betas=(beta1, beta2),
            eps=eps,
            weight_decay=weight_decay,
        )
        self.defaults.update(own)

    def add_param_group(self, param_group: dict[str, Any]) -> None:
        """Add a parameter group and check its options.

        Raises:
            OptionError: If an option is unknown or out of bounds.
        """
        self._check_new_group(param_group)
        group = dict(param_group)
        for name in _OWN:
            group.setdefault(name, self.defaults.get(name))
        self.__dict__.pop("_roles", None)
        beta1, beta2 = self.defaults["betas"]
        given = group.pop("beta1", beta1), group.pop("beta2", beta2)
        if given != (beta1, beta2):
            group["betas"] = given
        super().add_param_group(group)

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Load the state of the optimizer.

        Raises:
            CheckpointError: If the state belongs to another method or to other layers,
                or has an option out of bounds. The optimizer is not changed.
        """
        check_state(state_dict, method(self.method))
        saved = [dict(group) for group in state_dict["param_groups"]]
        check_saved_groups(method(self.method), saved, self.defaults)
        check_shapes(state_dict, self.param_groups)
        super().load_state_dict(state_dict)
        # States of older versions do not have them.
        for group in self.param_groups:
            for name in _OWN:
                group.setdefault(name, self.defaults.get(name))

    @functools.cached_property
    def _roles(self) -> dict[int, Role]:
        """Roles of the factors of LoRA pairs by id."""
        found = find_pairs(self.param_groups, self._odd).with_odd().pairs
        if not found:
            raise OptionError(
                "weight_decay_b, weight_decay_a: no LoRA pairs were found. Pass a "
                "model or named parameters, or use weight_decay."
            )
        return {id(getattr(pair, role)): role for pair in found for role in ROLES}

    def _decay(self, group: Mapping[str, Any], parameter: Tensor) -> float:
        """Return the weight decay of a parameter."""
        if not decays_apart(group):
            return group["weight_decay"]
        return decay_of(self._roles.get(id(parameter)), group)


class AdamW(SeparateBetas, torch.optim.AdamW):
    """Fused AdamW of torch with separate ``beta1`` and ``beta2``.

    The results are bitwise identical to ``torch.optim.AdamW``. If torch has no fused
    kernel for a device, its foreach implementation is used. Float16 parameters have
    float32 moments, because updates could overflow otherwise.
    """

    method = "adamw"

    @torch.no_grad()
    def step(self, closure: Callable[[], Any] | None = None) -> Any:
        """Update every parameter that has a gradient.

        Raises:
            OptionError: If a learning rate or an option is out of bounds.
        """
        self._check_groups()
        loss = None
        if closure is not None:
            with torch.enable_grad():
                loss = closure()
        for group in self.param_groups:
            trained = [p for p in group["params"] if p.grad is not None]
            alike = functools.partial(self._alike, group)
            for params in bucketed(trained, alike):
                self._step_alike(group, params)
        return loss

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Load the state. The moments of float16 parameters stay in float32.

        Raises:
            CheckpointError: If the state belongs to another method or to other layers.
        """
        super().load_state_dict(state_dict)
        groups = self.param_groups
        keep_dtypes(self.state, state_dict, groups, lambda p: p.dtype == torch.float16)

    def _alike(self, group: Mapping[str, Any], parameter: Tensor) -> tuple[Any, ...]:
        decay = self._decay(group, parameter)
        return parameter.device, parameter.dtype, decay

    def _step_alike(self, group: dict[str, Any], params: list[Tensor]) -> None:
        """Update parameters of one device and dtype."""
        beta1, beta2 = group["betas"]
        adamw_step(
            params,
            [p.grad for p in params if p.grad is not None],
            [self.state[p] for p in params],
            {
                "beta1": beta1,
                "beta2": beta2,
                "eps": group["eps"],
                "weight_decay": self._decay(group, params[0]),
            },
            lr=group["lr"],
        )
