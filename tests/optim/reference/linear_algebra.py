"""Textbook factorizations of single matrices."""

from __future__ import annotations

import torch
from torch import Tensor


def sym(m: Tensor) -> Tensor:
    return (m + m.T) / 2


def tangent(b: Tensor, z: Tensor) -> Tensor:
    return z - b @ sym(b.T @ z)


def msign(m: Tensor, floor: float = 1e-12) -> Tensor:
    """U V^T over the singular values that are not rounding of 0."""
    u, s, vh = torch.linalg.svd(m, full_matrices=False)
    kept = s > floor * s.max() if s.max() > 0 else torch.zeros_like(s, dtype=bool)
    return u[:, kept] @ vh[kept]


def qf(m: Tensor) -> tuple[Tensor, Tensor]:
    q, r = torch.linalg.qr(m)
    sign = torch.where(torch.diagonal(r) < 0, -1.0, 1.0).to(m.dtype)
    return q * sign, sign[:, None] * r


def uf(m: Tensor) -> Tensor:
    """Orthonormal polar factor of a full-rank matrix."""
    u, _, vh = torch.linalg.svd(m, full_matrices=False)
    return u @ vh
