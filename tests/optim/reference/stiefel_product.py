"""StiefelLoRA's step of the product on dense matrices: ``stiefel_product``'s docstring.

The momentum is the m x n tangent vector itself, msign an SVD of it, and frames are
symmetric inverse roots, so nothing here uses Gram matrices, of coefficients or of
momenta that are kept as gradients.
"""

from __future__ import annotations

import torch
from torch import Tensor

from .linear_algebra import msign, uf

STEEPEST = 3.0


def inverse_root(k: Tensor, shift: float) -> Tensor:
    values, vectors = torch.linalg.eigh(k)
    return vectors @ torch.diag((values + shift).rsqrt()) @ vectors.T


class StiefelProductReference:
    def __init__(self, pairs, lr, **options):
        self.pairs, self.lr, self.o = pairs, lr, options
        self.momenta = [
            torch.zeros(b.shape[0], a.shape[1], dtype=b.dtype) for b, a in pairs
        ]
        self.least = 1.0
        """Smallest singular value that msign met, as a share of the largest."""

    def step(self, gradients):
        for i, (gb, ga) in enumerate(gradients):
            b, a = self.pairs[i]
            mu = 0.6 if self.o["momentum"] is None else self.o["momentum"]
            old = mu * self.momenta[i]
            root = inverse_root(a @ a.T, (self.lr / STEEPEST) ** 2)
            right = a.T @ root
            outside = torch.eye(b.shape[0], dtype=b.dtype) - b @ b.T
            x_left = outside @ (gb + old @ a.T) @ root
            x_right = ga.T + old.T @ b
            tangent = x_left @ right.T + b @ x_right.T
            self.momenta[i] = tangent
            self._note_spectrum(tangent)
            direction = msign(tangent, floor=1e-10)
            d_left, d_right = outside @ direction @ right, direction.T @ b
            moved = (1 - self.lr * self.o["weight_decay"]) * (b @ a) - self.lr * (
                d_left @ right.T + b @ d_right.T
            )
            new = uf(b - self.lr * d_left @ root)
            self.pairs[i] = new, new.T @ moved

    def _note_spectrum(self, tangent: Tensor) -> None:
        sigma = torch.linalg.svdvals(tangent)
        kept = sigma[sigma > 1e-10 * sigma[0]]
        if len(kept):
            self.least = min(self.least, float(kept[-1] / kept[0]))
