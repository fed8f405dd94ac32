"""LoRA-Muon as printed, with symmetric inverse roots and an SVD for msign.

The paper averages gradients, and so does this: msign does not see the difference to a
heavy ball. Gram matrices are damped by each other's inverses, as in ``_gram_frames``.
"""

from __future__ import annotations

import torch

from .linear_algebra import msign


def inverse_root(k):
    values, vectors = torch.linalg.eigh(k)
    return vectors @ torch.diag(values.rsqrt()) @ vectors.T


class LoraMuonReference:
    def __init__(self, pairs, lr, **options):
        self.pairs, self.lr, self.o = pairs, lr, options
        self.means = [(torch.zeros_like(b), torch.zeros_like(a)) for b, a in pairs]
        self.least = 1.0
        """Smallest singular value that msign met, as a share of the largest."""

    def step(self, gradients):
        beta, half = self.o["momentum"], self.lr / 2
        keep = (1 - self.lr * self.o["weight_decay"]) ** 0.5
        for i, (gb, ga) in enumerate(gradients):
            b, a = self.pairs[i]
            mb, ma = self.means[i]
            mb, ma = beta * mb + (1 - beta) * gb, beta * ma + (1 - beta) * ga
            self.means[i] = mb, ma
            sa, sb = a @ a.T, b.T @ b
            damp = (half / self.o["growth"]) ** 2
            over_b = inverse_root(sa + damp * torch.linalg.inv(sb))
            over_a = inverse_root(sb + damp * torch.linalg.inv(sa))
            move_b = -half * self._msign(mb @ over_b) @ over_b
            move_a = -half * over_a @ self._msign(over_a @ ma)
            self.pairs[i] = keep * b + move_b / keep, keep * a + move_a / keep

    def _msign(self, m):
        sigma = torch.linalg.svdvals(m)
        self.least = min(self.least, float(sigma[-1] / sigma[0]))
        return msign(m)
