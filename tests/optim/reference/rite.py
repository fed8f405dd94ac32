"""LoRA-RITE as its reference code does it, eigenvalues clamped."""

from __future__ import annotations

import torch

from .linear_algebra import qf, sym


class RiteReference:
    def __init__(self, pairs, lr, **options):
        self.pairs, self.lr, self.o = pairs, lr, options
        self.t = 0
        self.state = [{} for _ in pairs]

    def step(self, gradients):
        sides = [
            self._sides(*p, *g) for p, g in zip(self.pairs, gradients, strict=True)
        ]
        norm = sum(float((s[0] ** 2).sum()) for pair in sides for s in pair) ** 0.5
        clip = self.o["clip_norm"]
        scale = min(1.0, clip / norm) if clip and norm else 1.0
        for i, (for_b, for_a) in enumerate(sides):
            b, a = self.pairs[i]
            move_b = self._move(i, "b", *for_b, scale) + self.o["weight_decay"] * b
            move_a = self._move(i, "a", *for_a, scale) + self.o["weight_decay"] * a.T
            self.pairs[i] = (b - self.lr * move_b, a - self.lr * move_a.T)
        self.t += 1

    def _sides(self, b, a, gb, ga):
        ub, rb = qf(b)
        ua, ra = qf(a.T)
        ib, ia = torch.linalg.pinv(rb, rtol=1e-6), torch.linalg.pinv(ra, rtol=1e-6)
        return (self._skip(gb @ ia), ua, ia), (self._skip(ga.T @ ib), ub, ib)

    def _skip(self, g):
        above = self.o["skip_above"]
        rms = float((g**2).mean()) ** 0.5
        return torch.zeros_like(g) if above and rms > above else g

    def _move(self, i, name, g, basis, inverse, scale):
        state, t = self.state[i], self.t
        g = g * scale
        r = g.shape[1]
        zeros = torch.zeros(r, r, dtype=g.dtype)
        old_basis = state.get(("basis", name), torch.zeros_like(basis))
        p = basis.T @ old_basis
        beta1, beta2 = (
            beta * (1 - beta**t) / (1 - beta ** (t + 1))
            for beta in (self.o["beta1"], self.o["beta2"])
        )
        old = state.get(("v", name), zeros)
        carried = p @ old @ p.T
        v = sym(beta2 * carried + (1 - beta2) * g.T @ g / g.shape[0])
        rho = 0.0
        if self.o["escape"]:
            drop = torch.linalg.eigvalsh(old) - torch.linalg.eigvalsh(sym(carried))
            trace = float(torch.trace(old) - torch.trace(carried))
            lost = min(max(float(drop.max()), 0.0), max(trace, 0.0))
            rho = beta2 * (state.get(("rho", name), 0.0) + lost)
        values, q = torch.linalg.eigh(v)
        root = torch.sqrt(values.clamp(min=0) + rho) + self.o["eps"]
        s = g @ q @ torch.diag(1 / root) @ q.T
        m = state.get(("m", name), torch.zeros_like(g))
        m = beta1 * m @ p.T + (1 - beta1) * s
        state |= {
            ("basis", name): basis,
            ("v", name): v,
            ("rho", name): rho,
            ("m", name): m,
        }
        return m @ inverse.T
