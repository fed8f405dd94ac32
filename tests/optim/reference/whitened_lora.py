"""Whitened LoRA with bases that are kept, symmetric roots, and an SVD to retract."""

from __future__ import annotations

import torch

from .linear_algebra import uf


def power(k, exponent):
    values, vectors = torch.linalg.eigh((k + k.T) / 2)
    return vectors @ torch.diag(values**exponent) @ vectors.T


class WhitenedReference:
    def __init__(self, pairs, lr, **options):
        self.pairs, self.lr, self.o = pairs, lr, options
        self.t, self.state = 0, [None for _ in pairs]

    def step(self, gradients):
        self.t += 1
        beta1, beta2 = (
            beta * (1 - beta ** (self.t - 1)) / (1 - beta**self.t)
            for beta in (self.o["beta1"], self.o["beta2"])
        )
        for i, (gb, ga) in enumerate(gradients):
            b, a = self.pairs[i]
            h = power(a @ a.T, 0.5)
            frame = a.T @ torch.linalg.inv(h)
            outside = torch.eye(len(b)).to(b) - b @ b.T
            bars = outside @ gb @ torch.linalg.inv(h), ga.T
            bases = frame, b
            old = self.state[i] or [
                (base, torch.zeros(len(a), len(a)).to(a), torch.zeros_like(bar))
                for base, bar in zip(bases, bars, strict=True)
            ]
            new = []
            for base, bar, (old_base, v, m) in zip(bases, bars, old, strict=True):
                p = base.T @ old_base
                v = beta2 * p @ v @ p.T + (1 - beta2) * bar.T @ bar / len(bar)
                most = torch.linalg.eigvalsh((v + v.T) / 2)[-1]
                s = bar @ power(v + 1e-4 * most * torch.eye(len(v)).to(v), -0.5)
                new.append((base, v, beta1 * m @ p.T + (1 - beta1) * s))
            mb = outside @ new[0][2]
            self.state[i] = [(*new[0][:2], mb), new[1]]
            longest = self.o["longest_turn"]
            delta = self.lr * len(b) ** 0.5 / longest
            xi = (
                self.lr * mb @ power(a @ a.T + delta**2 * torch.eye(len(a)).to(a), -0.5)
            )
            size = float(torch.linalg.matrix_norm(xi, 2))
            xi = xi * min(1.0, longest / size) if size else xi
            keep = 1 - self.lr * self.o["weight_decay"]
            self.pairs[i] = uf(b - xi), keep * a - self.lr * new[1][2].T
