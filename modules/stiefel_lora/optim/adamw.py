"""AdamW of torch with the option names of this package."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

from ..methods import check_options, method
from .engine.adamw_step import adamw_step
from .engine.refusals import check_lr
from .engine.saved_state import check_shapes, check_state, keep_dtypes
from .engine.stacking import bucketed
from .group_checks import check_saved_groups
from .groups import Source, named_groups, spare_magnitudes
from .lora_optimizer import LoraOptimizer
from .pairs import odd_ones

__all__ = ["AdamW", "SeparateBetas"]


class SeparateBetas(LoraOptimizer):
    """Base class for AdamW variants with ``beta1`` and ``beta2`` instead of ``betas``.

    The options of parameter groups are checked.

    Args:
        params: model, named parameters, or iterable of parameters or parameter groups
            to optimize.
        lr: learning rate.
        weight_decay: decoupled weight decay, multiplied by lr. DoRA magnitudes do not
            decay.
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
        beta1: float = 0.9,
        beta2: float = 0.999,
        eps: float = 1e-8,
    ) -> None:
        options: dict[str, object] = {
            "weight_decay": weight_decay,
            "beta1": beta1,
            "beta2": beta2,
            "eps": eps,
        }
        check_options(method(self.method), options)
        check_lr(lr)
        self._odd = odd_ones(params) if isinstance(params, nn.Module) else []
        # The constructor of a subclass's other base, with torch's option names.
        base: Callable[..., None] = super().__init__
        base(
            spare_magnitudes(named_groups(params)),
            lr=lr if self._tensor_rates else float(lr),
            betas=(beta1, beta2),
            eps=eps,
            weight_decay=weight_decay,
        )

    def add_param_group(self, param_group: dict[str, Any]) -> None:
        """Add a parameter group and check its options.

        Raises:
            OptionError: If an option is unknown or out of bounds.
        """
        self._check_new_group(param_group)
        group = dict(param_group)
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
            for params in bucketed(trained, lambda p: (p.device, p.dtype)):
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
                "weight_decay": group["weight_decay"],
            },
            lr=group["lr"],
        )
