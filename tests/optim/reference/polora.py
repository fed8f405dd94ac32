"""PoLoRA step by step as its ports print it, p and q filled with 1e-12."""

from __future__ import annotations

import torch

from .linear_algebra import msign


def inverse_root(c):
    values, vectors = torch.linalg.eigh(c)
    return vectors @ torch.diag(values.rsqrt()) @ vectors.T


class PoloraReference:
    def __init__(self, pairs, lr, **options):
        self.pairs, self.lr, self.o = pairs, lr, options
        self.state = [self._fresh(b, a) for b, a in pairs]
        self.least = 1.0
        """Smallest singular value that msign met, as a share of the largest."""

    def _fresh(self, b, a):
        fill = torch.full
        return {
            "b": torch.zeros_like(b),
            "a": torch.zeros_like(a),
            "p": fill((b.shape[0],), 1e-12, dtype=b.dtype),
            "q": fill((a.shape[1],), 1e-12, dtype=a.dtype),
        }

    def step(self, gradients):
        beta, delta = self.o["momentum"], self.o["curvature_damping"]
        decay = self.o["curvature_decay"]
        keep = (1 - self.lr * self.o["weight_decay"]) ** 0.5
        for i, (gb, ga) in enumerate(gradients):
            (b, a), state = self.pairs[i], self.state[i]
            state["b"] = beta * state["b"] + (1 - beta) * gb
            state["a"] = beta * state["a"] + (1 - beta) * ga
            mb = beta * state["b"] + (1 - beta) * gb
            ma = beta * state["a"] + (1 - beta) * ga
            p = torch.diag(state["p"] / state["p"].max() + delta)
            q = torch.diag(state["q"] / state["q"].max() + delta)
            ca, cb = self._damped(a @ q @ a.T), self._damped(b.T @ p @ b)
            ra, rb = inverse_root(ca), inverse_root(cb)
            rp, rq = inverse_root(p), inverse_root(q)
            da = rb @ self._msign(rb @ ma @ rq) @ rq
            db = rp @ self._msign(rp @ mb @ ra) @ ra
            rho = self.lr / (self._norm(a) + self._norm(b))
            self.pairs[i] = (
                keep * b - rho / keep * db / self._norm(db),
                keep * a - rho / keep * da / self._norm(da),
            )
            r = a.shape[0]
            fresh_q = torch.diagonal(ga.T @ torch.linalg.inv(cb) @ ga) / r
            fresh_p = torch.diagonal(gb @ torch.linalg.inv(ca) @ gb.T) / r
            state["q"] = decay * state["q"] + (1 - decay) * fresh_q
            state["p"] = decay * state["p"] + (1 - decay) * fresh_p

    def _damped(self, c):
        largest = torch.linalg.eigvalsh(c)[-1]
        return c + self.o["curvature_damping"] * largest * torch.eye(len(c)).to(c)

    def _norm(self, m):
        return float(torch.linalg.matrix_norm(m, 2))

    def _msign(self, m):
        sigma = torch.linalg.svdvals(m)
        self.least = min(self.least, float(sigma[-1] / sigma[0]))
        return msign(m)
