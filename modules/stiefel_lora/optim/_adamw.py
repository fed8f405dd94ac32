"""Torch's fused AdamW on parameters whose state another optimizer holds."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor
from torch.optim.adamw import adamw

__all__ = ["ADAMW_STATE", "adamw_step"]

ADAMW_STATE = ("step", "exp_avg", "exp_avg_sq")


def adamw_step(
    params: list[Tensor],
    grads: list[Tensor],
    states: list[dict[str, Any]],
    options: Mapping[str, Any],
    *,
    lr: float | Tensor,
    weight_decay: float,
) -> None:
    """Take one step of AdamW in place; missing state is created as torch creates it.

    Args:
        params: any shapes, one device.
        grads: same shapes; cast to the parameter's dtype where it differs.
        states: dicts that hold ``step``, ``exp_avg`` and ``exp_avg_sq``.
        options: ``beta1``, ``beta2`` and ``eps``.
        lr: learning rate in AdamW's unit.
        weight_decay: decoupled decay, multiplied by ``lr``.
    """
    for param, state in zip(params, states, strict=True):
        if "exp_avg" not in state:
            # The fused kernel reads the step count on the parameter's device.
            state["step"] = torch.zeros((), dtype=torch.float32, device=param.device)
            state["exp_avg"] = torch.zeros_like(param)
            state["exp_avg_sq"] = torch.zeros_like(param)
        elif state["step"].device != param.device:
            state["step"] = state["step"].to(param.device)
    adamw(
        params,
        [_laid_out(p, g) for p, g in zip(params, grads, strict=True)],
        [state["exp_avg"] for state in states],
        [state["exp_avg_sq"] for state in states],
        [],
        [state["step"] for state in states],
        fused=all(p.device.type in ("cpu", "cuda") for p in params) or None,
        amsgrad=False,
        beta1=options["beta1"],
        beta2=options["beta2"],
        lr=lr,
        weight_decay=weight_decay,
        eps=options["eps"],
        maximize=False,
    )


def _laid_out(param: Tensor, grad: Tensor) -> Tensor:
    """The gradient in the dtype and memory order of its parameter.

    The fused kernel walks through the memory of both and never looks at strides.
    """
    if grad.dtype == param.dtype and grad.stride() == param.stride():
        return grad
    return torch.empty_like(param).copy_(grad)
