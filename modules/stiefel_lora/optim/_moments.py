"""Adam, SGD and Lion directions on stacked tensors, for methods with their own moments.

A base rule maps the gradient of a factor to a direction, which is multiplied by -lr.
Its moments are in the state of the batch under ``<kind>_<name>``. ``heavy_ball`` and
``ahead`` compute the momentum of methods that update the factors separately.
"""

from __future__ import annotations

import torch
from torch import Tensor

from .rule import FactorBatch, Number, PairBatch, StateShape

__all__ = [
    "BASE_RULES",
    "adam_direction",
    "adamw_moved",
    "ahead",
    "heavy_ball",
    "moment_states",
]

Batch = PairBatch | FactorBatch

_KINDS = {"sgd": ("mean",), "adam": ("mean", "square"), "lion": ("mean",)}


def moment_states(
    base_rule: str, shapes: dict[str, StateShape]
) -> dict[str, StateShape]:
    """Return the shapes of the state of a base rule for tensors of the given shapes."""
    return {
        f"{kind}_{name}": shape
        for kind in _KINDS[base_rule]
        for name, shape in shapes.items()
    }


def adam_direction(batch: Batch, name: str, gradient: Tensor) -> Tensor:
    r"""Return Adam's :math:`\hat m / (\sqrt{\hat v} + \epsilon)`, bias-corrected."""
    if isinstance(batch, FactorBatch) and _fuses(batch):
        # A step of the kernel from 0 at a rate of -1 is the direction.
        zero = torch.zeros_like(gradient)
        return _fused(batch, zero, name, gradient, -1.0, 0.0)
    numbers, state = batch.numbers, batch.state
    beta1, beta2 = numbers["beta1"], numbers["beta2"]
    mean = state[f"mean_{name}"] = state[f"mean_{name}"].lerp(gradient, 1 - beta1)
    square = state[f"square_{name}"]
    square = state[f"square_{name}"] = square.lerp(gradient.square(), 1 - beta2)
    mean = mean / _bias(batch, "beta1")
    square = square / _bias(batch, "beta2")
    return mean / (square.sqrt() + numbers["eps"])


def _bias(batch: Batch, name: str) -> Number:
    """Return 1 - beta^step."""
    if isinstance(batch, FactorBatch) and name in batch.bias:
        return batch.bias[name]
    return 1 - batch.numbers[name] ** batch.step


def adamw_moved(batch: FactorBatch, name: str, gradient: Tensor) -> Tensor:
    """Return the factor after a step of torch's AdamW. The moments are updated."""
    decay = batch.numbers[f"weight_decay_{name}"]
    if _fuses(batch) and isinstance(batch.lr, float) and isinstance(decay, float):
        return _fused(batch, batch.point, name, gradient, batch.lr, decay)
    move = adam_direction(batch, name, gradient)
    return batch.point - batch.lr * (move + decay * batch.point)


def _fuses(batch: FactorBatch) -> bool:
    """Return whether the fused AdamW kernel of torch can be used for this batch.

    The kernel requires the same learning rate and options for all factors.
    """
    names = ("beta1", "beta2", "eps")
    numbers = [batch.step, *(batch.numbers[name] for name in names)]
    on_cpu = batch.point.device.type == "cpu"
    return on_cpu and batch.writable and all(isinstance(n, float) for n in numbers)


def _fused(
    batch: FactorBatch,
    point: Tensor,
    name: str,
    gradient: Tensor,
    lr: float,
    decay: float,
) -> Tensor:
    """Run the fused AdamW kernel. The factors and moments are updated in place."""
    beta1, beta2, eps = (float(batch.numbers[n]) for n in ("beta1", "beta2", "eps"))
    torch._fused_adamw_(
        [point],
        [gradient],
        [batch.state[f"mean_{name}"]],
        [batch.state[f"square_{name}"]],
        [],
        [torch.tensor(float(batch.step), dtype=torch.float32)],
        lr=lr,
        beta1=beta1,
        beta2=beta2,
        weight_decay=decay,
        eps=eps,
        amsgrad=False,
        maximize=False,
    )
    return point


def _sgd_direction(batch: Batch, name: str, gradient: Tensor) -> Tensor:
    """Update and return the heavy-ball momentum: m <- beta1 m + g."""
    mean = batch.numbers["beta1"] * batch.state[f"mean_{name}"] + gradient
    batch.state[f"mean_{name}"] = mean
    return mean


def _lion_direction(batch: Batch, name: str, gradient: Tensor) -> Tensor:
    """Return Lion's sign(beta1 m + (1 - beta1) g); m <- beta2 m + (1 - beta2) g."""
    mean = batch.state[f"mean_{name}"]
    batch.state[f"mean_{name}"] = mean.lerp(gradient, 1 - batch.numbers["beta2"])
    return mean.lerp(gradient, 1 - batch.numbers["beta1"]).sign()


BASE_RULES = {
    "sgd": _sgd_direction,
    "adam": adam_direction,
    "lion": _lion_direction,
}


def heavy_ball(batch: FactorBatch, name: str) -> Tensor:
    """Update and return the state ``name``: m <- mu m + g."""
    before = batch.state[name]
    batch.state[name] = _sum(batch.grad, before, batch.numbers["momentum"])
    return batch.state[name]


def ahead(batch: FactorBatch, name: str) -> Tensor:
    """Return the update direction: the momentum, or the Nesterov momentum."""
    momentum = batch.state[name]
    if not batch.choices["nesterov"]:
        return momentum
    return _sum(batch.grad, momentum, batch.numbers["momentum"])


def _sum(one: Tensor, other: Tensor, factor: Number) -> Tensor:
    """Compute one + factor * other in a single kernel."""
    if isinstance(factor, Tensor):
        return torch.addcmul(one, other, factor)
    return torch.add(one, other, alpha=factor)
