"""AdamW in a pair optimizer, for parameters and factors that the rule does not update.

The state has the format of ``torch.optim.AdamW``.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor
from torch.optim.adamw import adamw

from ..groups import is_magnitude
from ..pairs import Pair
from ..rule import ROLES, AdamWOptions, Role, Rule
from .batching import Member, free_half
from .master_weights import State, values
from .stacking import bucketed

__all__ = [
    "ADAMW_STATE",
    "adamw_step",
    "left_factors",
    "step_lone_factor",
    "step_lone_rest",
    "step_rest",
]

ADAMW_STATE = ("step", "exp_avg", "exp_avg_sq")
"""Names of the states of torch's AdamW."""

# (parameter, gradient, multiple of the group's rate, weight decay, in a pair)
Entry = tuple[Tensor, Tensor, float, float, bool]


def step_rest(
    state: State,
    groups: Sequence[dict[str, Any]],
    rule: Rule,
    rest: Sequence[tuple[str, Tensor]],
    factors: Sequence[tuple[Tensor, Tensor, Role]],
    found: Callable[[torch.device], Tensor | None] = lambda device: None,
) -> None:
    """Update the factors that AdamW trains, and all parameters outside pairs.

    Args:
        state: state of the optimizer.
        groups: parameter groups with learning rates and options.
        rule: update rule of the method.
        rest: (name, parameter) of all parameters outside pairs.
        factors: (factor, gradient, role) of the factors that AdamW trains.
        found: device -> 1.0 if the step is skipped for all factors on it, otherwise
            0.0.
    """
    by_id = {id(factor): (gradient, role) for factor, gradient, role in factors}
    free = {id(param): _decays(name, param) for name, param in rest}
    for group in groups:
        options = rule.adamw_options(group)
        entries = list(_entries(group, rule, free, by_id))
        # The kernel takes one rate, one decay, one dtype and one device per call.
        for bucket in bucketed(entries, _key):
            params = [entry[0] for entry in bucket]
            _, _, ratio, decay, in_pair = bucket[0]
            adamw_step(
                # The float32 copies move where there are any; moments stay under the
                # parameter, as in checkpoints of torch.
                [values(state, param) for param in params],
                [entry[1] for entry in bucket],
                [state[param] for param in params],
                {**options, "weight_decay": decay},
                lr=group["lr"] * ratio,
                # Parameters outside pairs step even if a pair on their device cannot.
                found=found(params[0].device) if in_pair else None,
            )


def left_factors(
    pairs: Sequence[Pair],
    members: Sequence[Member],
    owners: Mapping[int, dict[str, Any]],
    rule: Rule,
) -> list[tuple[Tensor, Tensor, Role]]:
    """Collect the factors that AdamW trains, with gradients in the current gauge.

    Factors are only included if their pair has both gradients, except for pairs with a
    frozen factor and methods that train both factors with AdamW.
    """
    found: list[tuple[Tensor, Tensor, Role]] = []
    for member in members:
        roles = rule.adamw_roles(member.up_group)
        if len(roles) == 1 and "up" in roles:
            found.append((member.pair.up, member.grad_up, "up"))
        if len(roles) == 1 and "down" in roles:
            found.append((member.pair.down, member.grad_down, "down"))
    for pair in pairs:
        if len(rule.adamw_roles(owners[id(pair.up)])) < 2 and not free_half(pair):
            continue
        if pair.up.grad is not None:
            found.append((pair.up, pair.up.grad, "up"))
        if pair.down.grad is not None:
            found.append((pair.down, pair.down.grad, "down"))
    return found


def step_lone_factor(
    state: State,
    rule: Rule,
    role: Role,
    factor: Tensor,
    group: Mapping[str, Any],
    usable: Tensor,
) -> None:
    """Update a single factor, B or A, unless its gradient is not ``usable``."""
    assert factor.grad is not None
    # A group with this factor only, so that the shared code steps nothing else.
    own = [{**group, "params": [factor]}]
    found = usable.logical_not().float()
    factors = [(factor, factor.grad, role)]
    step_rest(state, own, rule, [], factors, lambda _: found)


def step_lone_rest(
    state: State, rule: Rule, name: str, parameter: Tensor, group: Mapping[str, Any]
) -> None:
    """Update a single parameter outside pairs."""
    own = [{**group, "params": [parameter]}]
    step_rest(state, own, rule, [(name, parameter)], [])


def _entries(
    group: dict[str, Any],
    rule: Rule,
    free: Mapping[int, bool],
    by_id: Mapping[int, tuple[Tensor, Role]],
) -> Iterator[Entry]:
    roles = rule.adamw_roles(group)
    rest_ratio = rule.rest_lr_ratio(group)
    rest_decay = rule.decay(group, None)
    decays = {role: rule.decay(group, role) for role in ROLES}
    for param in group["params"]:
        if id(param) in by_id:
            gradient, role = by_id[id(param)]
            ratio = roles.get(role, rest_ratio)
            yield param, gradient, ratio, decays[role], True
        elif id(param) in free and param.grad is not None:
            decay = rest_decay if free[id(param)] else 0.0
            yield param, param.grad, rest_ratio, decay, False


def _decays(name: str, param: Tensor) -> bool:
    """Return whether weight decay is applied to a parameter.

    It is not applied to DoRA magnitudes, biases and norms.
    """
    return param.dim() > 1 and not is_magnitude(name, param)


def _key(entry: Entry) -> tuple[Any, ...]:
    param, _, ratio, decay, in_pair = entry
    return param.device, param.dtype, ratio, decay, in_pair


def adamw_step(
    params: list[Tensor],
    grads: list[Tensor],
    states: list[dict[str, Any]],
    options: AdamWOptions,
    *,
    lr: float | Tensor,
    found: Tensor | None = None,
) -> None:
    """Take one AdamW step in place. Missing state is created as in torch.

    Args:
        params: parameters of any shape on one device.
        grads: gradients with the same shapes. They are cast to the dtype of the
            parameters.
        states: dicts with ``step``, ``exp_avg`` and ``exp_avg_sq``. The moments of
            float16 parameters are float32, because squares of gradients below 2e-4
            underflow to 0 in float16 and the update would be infinite.
        options: beta1, beta2, eps, and weight decay, which is multiplied by ``lr``.
        lr: learning rate in the unit of AdamW.
        found: 1.0 on the device if the step is skipped, otherwise 0.0. Only used by the
            fused kernel.
    """
    moved = [_movable(param) for param in params]
    for param, state in zip(moved, states, strict=True):
        if "exp_avg" not in state:
            # The fused kernel needs the step count on the parameter's device.
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
        beta1=options["beta1"],
        beta2=options["beta2"],
        lr=lr,
        weight_decay=options["weight_decay"],
        eps=options["eps"],
        maximize=False,
    )
    for param, copied in zip(params, moved, strict=True):
        if copied is not param:
            param.copy_(copied)


def _movable(param: Tensor) -> Tensor:
    """Return the parameter, or a copy if the fused kernel cannot update it in place.

    A copy is made of float16 parameters (in float32) and of non-contiguous ones.
    """
    if param.dtype == torch.float16:
        return param.float()
    if param.is_contiguous() or torch.empty_like(param).stride() == param.stride():
        return param
    return param.clone(memory_format=torch.contiguous_format)


def _laid_out(param: Tensor, other: Tensor) -> Tensor:
    """Return a gradient or moment in the dtype and memory order of its parameter.

    The fused kernel ignores strides, and the dtype or memory format of the model may
    have changed since the moments were created.
    """
    if other.dtype == param.dtype and other.stride() == param.stride():
        return other
    return torch.empty_like(param).copy_(other)
