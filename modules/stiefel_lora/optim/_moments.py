"""Euclidean optimizers on stacked tensors, for rules that keep their own moments.

Each takes a gradient and returns a direction, to be multiplied by -lr. The moments lie
in the batch's state under ``<kind>_<name>``.
"""

from __future__ import annotations

from torch import Tensor

from .rule import PairBatch, StateShape

__all__ = ["BASE_RULES", "adam_direction", "moment_states"]

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
