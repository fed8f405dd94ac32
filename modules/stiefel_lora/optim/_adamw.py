"""Torch's fused AdamW on parameters whose state another optimizer holds."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor
from torch.optim.adamw import adamw

from ..methods import adam_options

__all__ = ["ADAMW_STATE", "adamw_step"]

_USUAL: dict[str, Any] = {option.name: option.default for option in adam_options()}

ADAMW_STATE = ("step", "exp_avg", "exp_avg_sq")


def adamw_step(
    params: list[Tensor],
    grads: list[Tensor],
    states: list[dict[str, Any]],
    options: Mapping[str, Any],
    *,
    lr: float | Tensor,
    weight_decay: float,
    found: Tensor | None = None,
) -> None:
    """Take one step of AdamW in place; missing state is created as torch creates it.

    Args:
        params: any shapes, one device.
        grads: same shapes; cast to the parameter's dtype where it differs.
        states: dicts that hold ``step``, ``exp_avg`` and ``exp_avg_sq``; moments of
            float16 parameters are float32, since squares of gradients below 2e-4 are 0
            in float16, which makes steps infinite.
        options: ``beta1``, ``beta2`` and ``eps``, or Adam's usual ones for what a
            method does not have.
        lr: learning rate in AdamW's unit.
        weight_decay: decoupled decay, multiplied by ``lr``.
        found: 1.0 on the device where nothing may move, else 0.0; read by the fused
            kernel alone.
    """
    chosen = {**_USUAL, **options}
    moved = [_movable(param) for param in params]
    for param, state in zip(moved, states, strict=True):
        if "exp_avg" not in state:
            # The fused kernel reads the step count on the parameter's device.
            state["step"] = torch.zeros((), dtype=torch.float32, device=param.device)
            state["exp_avg"] = torch.zeros_like(param)
            state["exp_avg_sq"] = torch.zeros_like(param)
        elif state["step"].device != param.device:
            state["step"] = state["step"].to(param.device)
        for key in ("exp_avg", "exp_avg_sq"):
            state[key] = _laid_out(param, state[key])
    fused = all(p.device.type in ("cpu", "cuda") for p in params)
    adamw(
        moved,
        [_laid_out(p, g) for p, g in zip(moved, grads, strict=True)],
        [state["exp_avg"] for state in states],
        [state["exp_avg_sq"] for state in states],
        [],
        [state["step"] for state in states],
        fused=fused or None,
        found_inf=found if fused else None,
        amsgrad=False,
        beta1=chosen["beta1"],
        beta2=chosen["beta2"],
        lr=lr,
        weight_decay=weight_decay,
        eps=chosen["eps"],
        maximize=False,
    )
    for param, copied in zip(params, moved, strict=True):
        if copied is not param:
            param.copy_(copied)


def _movable(param: Tensor) -> Tensor:
    """The parameter, or a copy where the fused kernel cannot move it in place.

    Copies are float32 for float16, and without gaps for memory that has some.
    """
    if param.dtype == torch.float16:
        return param.float()
    if param.is_contiguous() or torch.empty_like(param).stride() == param.stride():
        return param
    return param.clone(memory_format=torch.contiguous_format)


def _laid_out(param: Tensor, other: Tensor) -> Tensor:
    """A gradient or moment in the dtype and memory order of its parameter.

    The fused kernel walks through the memory of all and never looks at strides; a
    model may have been cast, or laid out anew, since the moments were made.
    """
    if other.dtype == param.dtype and other.stride() == param.stride():
        return other
    return torch.empty_like(param).copy_(other)
