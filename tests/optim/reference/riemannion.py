"""Riemannion on dense matrices: every formula as it stands, m x n and all.

Momentum and directions are held as m x n tangent matrices, so nothing here uses the
factored forms that the fast path uses.
"""

from __future__ import annotations

import torch

from .linear_algebra import msign


def project(u, v, z):
    """Tangent projection at the point with frames U, V."""
    pu, pv = u @ u.T, v @ v.T
    return pu @ z + z @ pv - pu @ z @ pv


class RiemannionReference:
    def __init__(self, pairs, lr, **options):
        self.pairs, self.lr, self.o = pairs, lr, options
        self.momenta = [
            torch.zeros(b.shape[0], a.shape[1], dtype=b.dtype) for b, a in pairs
        ]

    def step(self, gradients):
        """Gradients of the factors, which must be in the SVD gauge."""
        for i, (gb, ga) in enumerate(gradients):
            left, rows = self.pairs[i]
            rank = rows.shape[0]
            size = torch.linalg.norm(rows, dim=1)
            right = (rows / size[:, None]).T
            gr, lg = gb / size, ga
            gradient = (gr - left @ left.T @ gr) @ right.T + left @ lg
            carried = project(left, right, self.momenta[i])
            momentum = self.o["momentum"] * carried + gradient
            direction = project(left, right, msign(momentum))
            raw = self.o["momentum_form"] == "raw"
            self.momenta[i] = momentum if raw else direction
            x = left @ rows
            moved = x - self.lr * (direction + self.o["weight_decay"] * x)
            u, s, vh = torch.linalg.svd(moved, full_matrices=False)
            floored = s[:rank].clamp(min=1e-6 * float(s[0]))
            self.pairs[i] = (u[:, :rank], floored[:, None] * vh[:rank])
