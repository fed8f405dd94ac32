r"""The entry gauge: make B orthonormal without changing what the model computes.

The product is all the model sees, so (B, A) and (Q, R A) with B = Q R are the same
adapter. Gradients and moments change with the coordinates:
:math:`G_Q = G_B R^T` and :math:`G_{RA} = R^{-T} G_A`. B = 0 has no direction of its own
and gets a seeded random point, with A := 0 so that the product stays zero.
A polar projection of B alone would change the product.
"""

from __future__ import annotations

import dataclasses
import zlib

import torch
from torch import Tensor

from ..geometry import orthogonality_error, qr_gauge, random_orthonormal

__all__ = ["Gauge", "needs_gauge", "orthonormal_start", "stiefel_gauge"]

TOLERANCE = 1e-4
"""Pairs with max|B^T B - I| up to this keep their bits, so that a resume is exact."""


@dataclasses.dataclass(frozen=True)
class Gauge:
    """The change of coordinates B = Q R, in float64; ``r`` is ``(r, r)``."""

    r: Tensor

    def to_up(self, tensor: Tensor) -> Tensor:
        """Gradient or momentum of B in the new coordinates: G R^T."""
        return (tensor.flatten(1).double() @ self.r.mT).to(tensor.dtype).view_as(tensor)

    def to_down(self, tensor: Tensor) -> Tensor:
        """Gradient or momentum of A in the new coordinates: R^-T G."""
        moved = self._inverse_transpose() @ tensor.flatten(1).double()
        return moved.to(tensor.dtype).view_as(tensor)

    def to_down_squares(self, tensor: Tensor) -> Tensor:
        """Second moment of A, its entries taken as uncorrelated."""
        moved = self._inverse_transpose().square() @ tensor.flatten(1).double()
        return moved.to(tensor.dtype).view_as(tensor)

    def _inverse_transpose(self) -> Tensor:
        # A rank-deficient B says nothing about G along its missing directions; the
        # pseudo-inverse leaves those at zero instead of at infinity.
        return torch.linalg.pinv(self.r, rtol=1e-6).mT


def needs_gauge(up: Tensor) -> bool:
    """Whether B is further from orthonormal than rounding explains (waits for it)."""
    return bool(orthogonality_error(up.flatten(1).float()) > TOLERANCE)


def stiefel_gauge(up: Tensor, down: Tensor) -> Gauge:
    """Replace (B, A) by (Q, R A) in place; the product keeps its value to rounding."""
    q, r = qr_gauge(up.flatten(1).double())
    down.copy_((r @ down.flatten(1).double()).view_as(down))
    up.copy_(q.view_as(up))
    return Gauge(r)


def orthonormal_start(up: Tensor, down: Tensor, name: str, seed: int = 0) -> None:
    """Write a random orthonormal B and A = 0 in place, fixed by name and seed."""
    rows, columns = up.flatten(1).shape
    point = random_orthonormal(rows, columns, seed=zlib.crc32(name.encode()) ^ seed)
    up.copy_(point.view_as(up))
    down.zero_()
