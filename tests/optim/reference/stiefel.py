"""Stiefel-LoRA, algorithms of the module docstring of ``optim.stiefel``."""

from __future__ import annotations

import torch
from torch import Tensor

from .adam import Adam
from .linear_algebra import msign, qf, tangent, uf

ANGLE = {"muon": 0.5, "adamw": 2.0, "sign": 7.0}


class StiefelReference:
    def __init__(self, pairs, lr, **options):
        self.pairs, self.lr, self.o = pairs, lr, options
        self.momenta = [(torch.zeros_like(b), torch.zeros_like(a)) for b, a in pairs]
        adam = {k: options[k] for k in ("beta1", "beta2", "eps")}
        self.adams = [Adam(**adam) for _ in pairs]
        self.least = 1.0
        """Smallest singular value that msign met, as a share of the matrix's norm."""

    def step(self, gradients):
        for i, (gb, ga) in enumerate(gradients):
            b, a = self.pairs[i]
            mb, ma = self.momenta[i]
            b, mb = self._turn(b, mb, gb)
            a, ma = self._move(a, ma, ga, i)
            self.pairs[i], self.momenta[i] = (b, a), (mb, ma)

    @property
    def _mu(self) -> float:
        return 0.9 if self.o["momentum"] is None else self.o["momentum"]

    def _turn(self, b: Tensor, m: Tensor, g: Tensor) -> tuple[Tensor, Tensor]:
        mu = self._mu
        m = tangent(b, mu * m + g) if self.o["transport"] else mu * m + g
        xi = tangent(b, g + mu * m if self.o["nesterov"] else m)
        step = self._length(b, xi)
        moved = b - step
        return (uf(moved) if self.o["retraction"] == "polar" else qf(moved)[0]), m

    def _length(self, b: Tensor, xi: Tensor) -> Tensor:
        angle = self.o["angle_per_lr"]
        theta = self.lr * (ANGLE[self.o["a_rule"]] if angle is None else angle)
        if self.o["b_rule"] == "spectral":
            return theta * tangent(b, self._msign(xi))
        rows, rank = b.shape
        return {
            "angle": lambda: xi * theta * rank**0.5 / torch.linalg.norm(xi),
            "rms": lambda: (
                xi * (0.2 * self.lr * (rows * rank) ** 0.5) / torch.linalg.norm(xi)
            ),
            "spectral": lambda: xi * theta / torch.linalg.matrix_norm(xi, 2),
            "raw": lambda: xi * theta,
        }[self.o["b_length"]]()

    def _move(self, a: Tensor, m: Tensor, g: Tensor, i: int) -> tuple[Tensor, Tensor]:
        rule, mu, decay = self.o["a_rule"], self._mu, self.o["weight_decay"]
        if rule == "adamw":
            move = self.adams[i].direction(g)
            return a * (1 - self.lr * decay) - self.lr * move, m
        m = mu * m + g
        shrink = self.lr * decay
        if self.o["decay_rule"] == "over_rank":
            shrink = decay / a.shape[0]
        if rule == "sign":
            return a * (1 - shrink) - self.lr * 0.2 * torch.sign(m), m
        seen = g + mu * m if self.o["nesterov"] else m
        return a * (1 - shrink) - self.lr * self._msign(seen), m

    def _msign(self, m: Tensor) -> Tensor:
        values = torch.linalg.svdvals(m)
        values = values[values > 1e-12 * values[0]]
        self.least = min(self.least, float(values[-1] / values.norm()))
        return msign(m)
