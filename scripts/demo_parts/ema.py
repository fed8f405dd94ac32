"""Exponential moving average of weights, with a warm-up of the decay."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor


class WeightAverage:
    """mean <- mean + (1 - d_n) (weight - mean), d_n = min(decay, (1 + n) / (10 + n)).

    The warm-up makes the first weights, which are random, fade quickly.

    Attributes:
        means: one fp32 tensor a weight, in the order of the weights.
        count: updates so far (n).
    """

    def __init__(self, weights: Sequence[Tensor], decay: float) -> None:
        """Start from a copy of `weights`."""
        self.decay = decay
        self.count = 0
        self.means = [weight.detach().clone() for weight in weights]

    @torch.no_grad()
    def update(self, weights: Sequence[Tensor]) -> None:
        """Move the means towards the present weights."""
        self.count += 1
        decay = min(self.decay, (1 + self.count) / (10 + self.count))
        torch._foreach_lerp_(self.means, [w.detach() for w in weights], 1 - decay)

    @torch.no_grad()
    def swap(self, weights: Sequence[Tensor]) -> None:
        """Exchange weights and means; a second call takes it back."""
        for weight, mean in zip(weights, self.means, strict=True):
            kept = weight.detach().clone()
            weight.copy_(mean)
            mean.copy_(kept)
