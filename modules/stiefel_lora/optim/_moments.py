"""Moments of gradients on stacked tensors, for rules that keep their own.

Base rules map a gradient of a pair to a direction, to be multiplied by -lr; their
moments are in the batch's state under ``<kind>_<name>``. ``heavy_ball`` and ``ahead``
are the momentum of rules that step factors separately.
"""

from __future__ import annotations

import torch
from torch import Tensor

from .rule import FactorBatch, Number, PairBatch, StateShape

__all__ = ["BASE_RULES", "adam_direction", "ahead", "heavy_ball", "moment_states"]

_KINDS = {"sgd": ("mean",), "adam": ("mean", "square"), "lion": ("mean",)}


def moment_states(
    base_rule: str, shapes: dict[str, StateShape]
) -> dict[str, StateShape]:
    """State that a base rule needs for tensors of the given names and shapes."""
    return {
        f"{kind}_{name}": shape
        for kind in _KINDS[base_rule]
        for name, shape in shapes.items()
    }


def adam_direction(batch: PairBatch, name: str, gradient: Tensor) -> Tensor:
    r"""Adam: :math:`\hat m / (\sqrt{\hat v} + \epsilon)` with bias correction."""
    numbers, state = batch.numbers, batch.state
    beta1, beta2 = numbers["beta1"], numbers["beta2"]
    mean = state[f"mean_{name}"] = state[f"mean_{name}"].lerp(gradient, 1 - beta1)
    square = state[f"square_{name}"]
    square = state[f"square_{name}"] = square.lerp(gradient.square(), 1 - beta2)
    mean = mean / (1 - beta1**batch.step)
    square = square / (1 - beta2**batch.step)
    return mean / (square.sqrt() + numbers["eps"])


def _sgd_direction(batch: PairBatch, name: str, gradient: Tensor) -> Tensor:
    """Heavy-ball momentum: m <- beta1 m + g."""
    mean = batch.numbers["beta1"] * batch.state[f"mean_{name}"] + gradient
    batch.state[f"mean_{name}"] = mean
    return mean


def _lion_direction(batch: PairBatch, name: str, gradient: Tensor) -> Tensor:
    """Lion: sign(beta1 m + (1 - beta1) g), then m <- beta2 m + (1 - beta2) g."""
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
    """U: the momentum, or with Nesterov the momentum one step ahead."""
    momentum = batch.state[name]
    if not batch.choices["nesterov"]:
        return momentum
    return _sum(batch.grad, momentum, batch.numbers["momentum"])


def _sum(one: Tensor, other: Tensor, factor: Number) -> Tensor:
    """Add a multiple, in one pass over memory."""
    if isinstance(factor, Tensor):
        return torch.addcmul(one, other, factor)
    return torch.add(one, other, alpha=factor)
