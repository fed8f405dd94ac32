"""Adam's direction for one tensor."""

from __future__ import annotations

import torch
from torch import Tensor


class Adam:
    def __init__(self, beta1: float, beta2: float, eps: float) -> None:
        self.beta1, self.beta2, self.eps = beta1, beta2, eps
        self.mean = self.square = 0.0
        self.steps = 0

    def direction(self, gradient: Tensor) -> Tensor:
        self.steps += 1
        self.mean = self.beta1 * self.mean + (1 - self.beta1) * gradient
        self.square = self.beta2 * self.square + (1 - self.beta2) * gradient**2
        mean = self.mean / (1 - self.beta1**self.steps)
        square = self.square / (1 - self.beta2**self.steps)
        return mean / (torch.sqrt(square) + self.eps)


class AdamWReference:
    """AdamW on both factors; LoRA+ with a ratio."""

    def __init__(self, pairs, lr, lr_ratio=1.0, **options):
        self.pairs, self.lr, self.ratio = pairs, lr, lr_ratio
        self.decay = options["weight_decay"]
        moments = {k: options[k] for k in ("beta1", "beta2", "eps")}
        self.adams = [(Adam(**moments), Adam(**moments)) for _ in pairs]

    def step(self, gradients):
        for i, ((b, a), (gb, ga)) in enumerate(zip(self.pairs, gradients, strict=True)):
            adam_b, adam_a = self.adams[i]
            lr_b = self.lr * self.ratio
            new_b = b * (1 - lr_b * self.decay) - lr_b * adam_b.direction(gb)
            new_a = a * (1 - self.lr * self.decay) - self.lr * adam_a.direction(ga)
            self.pairs[i] = (new_b, new_a)
