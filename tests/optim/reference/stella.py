"""StelLA, Algorithm 1 of arXiv:2510.01938 with the exponential map of its appendix."""

from __future__ import annotations

from statistics import median

import torch
from torch import Tensor

from .adam import Adam
from .linear_algebra import qf, tangent, uf


class Sgd:
    def __init__(self, beta1, **_):
        self.beta, self.mean = beta1, 0.0

    def direction(self, g):
        self.mean = self.beta * self.mean + g
        return self.mean


class Lion:
    def __init__(self, beta1, beta2, **_):
        self.beta1, self.beta2, self.mean = beta1, beta2, 0.0

    def direction(self, g):
        step = torch.sign(self.beta1 * self.mean + (1 - self.beta1) * g)
        self.mean = self.beta2 * self.mean + (1 - self.beta2) * g
        return step


BASE = {"adam": Adam, "sgd": Sgd, "lion": Lion}


class StellaReference:
    def __init__(self, pairs, lr, **options):
        self.pairs, self.lr, self.o = pairs, lr, options
        sides = [side for b, a in pairs for side in (b.shape[0], a.shape[1])]
        self.width = median(sides)
        moments = {k: options[k] for k in ("beta1", "beta2", "eps")}
        base = BASE[options["base_rule"]]
        self.bases = [[base(**moments) for _ in range(3)] for _ in pairs]
        self.triples = [self._factor(b, a) for b, a in pairs]
        self.pairs = [(u, s @ v.T) for u, s, v in self.triples]

    def _factor(self, b, a):
        if self.o["s_form"] == "full":
            v, r = qf(a.T)
            return b, r.T, v
        p, sigma, wh = torch.linalg.svd(a, full_matrices=False)
        return b @ p, torch.diag(sigma), wh.T

    def step(self, gradients):
        """Gradients of the factors that :attr:`pairs` shows."""
        for i, (gb, ga) in enumerate(gradients):
            u, s, v = self.triples[i]
            base_u, base_s, base_v = self.bases[i]
            gs, gv = ga @ v, ga.T @ s
            if self.o["s_form"] == "diagonal":
                gs = torch.diag(torch.diagonal(gs))
            ms = base_s.direction(gs)
            mu = base_u.direction(gb - u @ gb.T @ u)
            mv = base_v.direction(gv - v @ gv.T @ v)
            s = s * (1 - self.lr * self.o["weight_decay"]) - self.lr * ms
            u, v = self._turn(u, mu), self._turn(v, mv)
            self.triples[i] = (u, s, v)
            self.pairs[i] = (u, s @ v.T)

    def _turn(self, y: Tensor, move: Tensor) -> Tensor:
        delta = -self.lr * move
        if self.o["base_rule"] != "sgd":
            delta = delta * (self.width / y.shape[0]) ** 0.5
        delta = tangent(y, delta)
        if self.o["retraction"] == "polar":
            return uf(y + delta)
        r = y.shape[1]
        k = torch.linalg.qr(delta - y @ y.T @ delta)
        top = torch.cat([y.T @ delta, -k.R.T], 1)
        bottom = torch.cat([k.R, torch.zeros_like(k.R)], 1)
        m, n = torch.linalg.matrix_exp(torch.cat([top, bottom]))[:, :r].split([r, r])
        return y @ m + k.Q @ n
