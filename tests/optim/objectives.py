"""Four small objectives of one LoRA layer whose lowest value is known.

Each has float64 data, a layer of 20 x 16 with a LoRA of rank 3, and a loss that a
product of rank 3 brings down to its floor.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from lora_net import LoraLinear
from torch import Tensor
from torch.nn.functional import cross_entropy

from stiefel_lora.geometry import random_orthonormal

__all__ = ["OBJECTIVES", "Objective"]

OUT, WIDTH, RANK, SAMPLES = 20, 16, 3, 256


@dataclass(frozen=True)
class Objective:
    """A loss of the layer's product, by step, and the value that it can reach."""

    loss: Callable[[Tensor, int], Tensor]
    floor: float

    def excess(self, product: Tensor) -> float:
        """Distance of the product above the floor, over all data."""
        with torch.no_grad():
            return float(self.loss(product, -1)) - self.floor

    def backward(self, layer: LoraLinear, step: int) -> None:
        """Fill the gradients of the batch of a step."""
        for parameter in layer.parameters():
            parameter.grad = None
        up, down = layer.lora_B["default"].weight, layer.lora_A["default"].weight
        self.loss(up @ down, step).backward()


def frame(rows: int, seed: int) -> Tensor:
    return random_orthonormal(rows, RANK, seed=seed, dtype=torch.float64)


def target(spectrum: tuple[float, ...], seed: int) -> Tensor:
    return (
        frame(OUT, seed)
        @ torch.diag(torch.tensor(spectrum).double())
        @ frame(WIDTH, seed + 1).mT
    )


def inputs(seed: int, condition: float = 1.0) -> Tensor:
    """(in, samples) with a covariance of the given condition number."""
    generator = torch.Generator().manual_seed(seed)
    x = torch.randn(WIDTH, SAMPLES, generator=generator, dtype=torch.float64)
    scales = torch.logspace(0, -0.5, WIDTH, base=condition, dtype=torch.float64)
    return scales[:, None] * x


def factorize() -> Objective:
    """Mean squared distance to a matrix whose singular values are 4, 1 and 1/4."""
    wanted = target((4.0, 1.0, 0.25), seed=1)
    return Objective(lambda product, _: (product - wanted).square().mean(), 0.0)


def regress() -> Objective:
    """Least squares on inputs whose covariance has the condition number 100."""
    x = inputs(2, condition=100.0)
    y = target((2.0, 1.0, 0.5), seed=3) @ x
    return Objective(lambda product, _: (product @ x - y).square().mean(), 0.0)


def classify() -> Objective:
    """Cross entropy with the classes' true shares, whose floor is their entropy."""
    x = inputs(4)
    shares = (target((3.0, 2.0, 1.0), seed=5) @ x).softmax(0).mT
    floor = float(cross_entropy(shares.log(), shares))
    return Objective(lambda product, _: cross_entropy((product @ x).mT, shares), floor)


def small_batches() -> Objective:
    """Regression on 16 samples a step, each with noise of its own in the labels."""
    x = inputs(6)
    clean = target((2.0, 1.0, 0.5), seed=7) @ x

    def loss(product: Tensor, step: int) -> Tensor:
        if step < 0:
            return (product @ x - clean).square().mean()
        generator = torch.Generator().manual_seed(step)
        chosen = torch.randint(SAMPLES, (16,), generator=generator)
        noise = torch.randn(OUT, 16, generator=generator, dtype=torch.float64)
        return (product @ x[:, chosen] - clean[:, chosen] - 0.3 * noise).square().mean()

    return Objective(loss, 0.0)


OBJECTIVES = {
    build.__name__: build for build in (factorize, regress, classify, small_batches)
}
