"""LoRA-TSD on dense matrices: X, msign and projections are m x n.

Factors are balanced as the published code does it, exactly and at each step; moves are
shortened by (I + s^2 C C^T)^(-1/2), C = (A A^T)^(-1/2) (B^T B)^(-1/2), in the frames of
symmetric roots.
"""

from __future__ import annotations

import torch

from .linear_algebra import msign


def power(k, exponent):
    values, vectors = torch.linalg.eigh(k)
    return vectors @ torch.diag(values**exponent) @ vectors.T


class LoraTsdReference:
    def __init__(self, pairs, lr, **options):
        self.pairs, self.lr, self.o = pairs, lr, options
        self.means = [(torch.zeros_like(b), torch.zeros_like(a)) for b, a in pairs]
        self.least = 1.0
        """Smallest singular value that msign met, as a share of the largest."""

    def step(self, gradients):
        beta = self.o["momentum"]
        keep = (1 - self.lr * self.o["weight_decay"]) ** 0.5
        for i, (gb, ga) in enumerate(gradients):
            (b, a), (mb, ma) = self.pairs[i], self.means[i]
            mb, ma = beta * mb + (1 - beta) * gb, beta * ma + (1 - beta) * ga
            nb, na = torch.linalg.inv(b.T @ b), torch.linalg.inv(a @ a.T)
            pb, pa = b @ nb @ b.T, a.T @ na @ a
            x = b @ nb @ ma + mb @ na @ a - b @ nb @ ma @ a.T @ na @ a
            for _ in range(self.o["tau"]):
                z = self._msign(x, len(a))
                x = pb @ z + z @ pa - pb @ z @ pa
            norm = float(torch.linalg.norm(x))
            eta = min(self.lr, self.o["trust_region"] / norm)
            rb, ra = power(b.T @ b, -0.5), power(a @ a.T, -0.5)
            c, one = (2 * eta) * ra @ rb, torch.eye(len(a)).to(a)
            wa, wb = power(one + c @ c.T, -0.5), power(one + c.T @ c, -0.5)
            move_b = -eta * x @ a.T @ ra @ wa @ ra
            move_a = -eta * rb @ wb @ rb @ b.T @ (x - x @ pa)
            b, a = keep * b + move_b / keep, keep * a + move_a / keep
            s = float(torch.linalg.norm(b) / torch.linalg.norm(a)) ** 0.5
            self.pairs[i], self.means[i] = (b / s, a * s), (mb * s, ma / s)

    def _msign(self, x, rank):
        """Of a matrix of rank 2r at most."""
        s = torch.linalg.svdvals(x)
        kept = s > 1e-10 * s[0]
        self.least = min(self.least, float(s[kept][-1] / s[0]))
        assert int(kept.sum()) <= 2 * rank
        return msign(x, floor=1e-10)
