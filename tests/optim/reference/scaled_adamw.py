"""AdamW on preconditioned gradients, both taken at the old pair."""

from __future__ import annotations

import torch

from .adam import Adam


class ScaledAdamWReference:
    def __init__(self, pairs, lr, **options):
        self.pairs, self.lr, self.o = pairs, lr, options
        moments = {k: options[k] for k in ("beta1", "beta2", "eps")}
        self.adams = [(Adam(**moments), Adam(**moments)) for _ in pairs]

    def step(self, gradients):
        for i, (gb, ga) in enumerate(gradients):
            b, a = self.pairs[i]
            adam_b, adam_a = self.adams[i]
            move_b = adam_b.direction(gb @ self._inverse(a @ a.T))
            move_a = adam_a.direction(self._inverse(b.T @ b) @ ga)
            keep = 1 - self.lr * self.o["weight_decay"]
            self.pairs[i] = (b * keep - self.lr * move_b, a * keep - self.lr * move_a)

    def _inverse(self, gram):
        r = gram.shape[0]
        identity = torch.eye(r, dtype=gram.dtype)
        unit = gram * r / torch.trace(gram)
        return torch.linalg.inv(unit + self.o["damping"] * identity)
