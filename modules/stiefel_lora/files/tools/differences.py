r"""Frobenius norms of updates and of their differences, from small matrices.

:math:`\|\sum_j s_j B_j A_j\|_F` is that of one product whose factors stand side by
side, and :math:`\|B A\|_F^2 = \langle B^T B, A A^T \rangle`. Where the parts cancel,
the Gram matrices lose digits; then the norm is taken from two thin QR.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor

from ..weights import LoraFactors

__all__ = ["difference", "relative", "update_norm"]

# Gram matrices in float64 resolve a difference down to 1e-8 of the parts, so that from
# here on ten digits of it are right.
_CANCELLED = 1e-3


def update_norm(factors: LoraFactors) -> float:
    """Frobenius norm of (alpha / r) B A."""
    return _norm([_matrices(factors)])


def difference(one: LoraFactors, two: LoraFactors) -> float:
    """Frobenius norm of the difference of two updates of one layer."""
    (up, down), (other_up, other_down) = _matrices(one), _matrices(two)
    if up.shape == other_up.shape:
        # Nearly equal factors: (B - B') A + B' (A - A') has no large parts.
        return _norm([(up - other_up, down), (other_up, down - other_down)])
    return _norm([(up, down), (-other_up, other_down)])


def relative(part: float, whole: float) -> float:
    """A part of a norm, in [0, 1]; 0 / 0 is 0."""
    if whole == 0:
        return 0.0 if part == 0 else math.inf
    return part / whole


def _matrices(factors: LoraFactors) -> tuple[Tensor, Tensor]:
    up = factors.up.detach().flatten(1).double()
    return up, factors.down.detach().flatten(1).double() * factors.scale


def _norm(parts: Sequence[tuple[Tensor, Tensor]]) -> float:
    # Factors that did not change leave a part of zeros.
    parts = [part for part in parts if part[0].any() and part[1].any()]
    if len(parts) < 2:
        return _gram_norm(*parts[0]) if parts else 0.0
    up = torch.cat([part[0] for part in parts], dim=1)
    down = torch.cat([part[1] for part in parts])
    size = sum(_gram_norm(*part) for part in parts)
    found = _gram_norm(up, down)
    if math.isnan(found) or found > _CANCELLED * size or size == 0:
        return found
    left, right = torch.linalg.qr(up).R, torch.linalg.qr(down.mT).R
    return float((left @ right.mT).norm())


def _gram_norm(up: Tensor, down: Tensor) -> float:
    square = float(((up.mT @ up) * (down @ down.mT)).sum())
    return math.sqrt(max(square, 0.0)) if math.isfinite(square) else math.nan
