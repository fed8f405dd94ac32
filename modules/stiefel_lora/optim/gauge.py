r"""Orthonormalization of B without changing the product B A (change of gauge).

The output of the model depends only on the product, so (B, A) and (Q, R A) with
B = Q R are the same adapter. Gradients and moments are transformed as well:
:math:`G_Q = G_B R^T` and :math:`G_{RA} = R^{-T} G_A`. If B = 0, it is replaced by a
random orthonormal matrix and A is set to 0, so that the product stays zero.

A polar projection of B alone would change the product.

Riemannion uses the SVD gauge: with A = P Sigma W^T, the pair becomes (B P, Sigma W^T),
and B stays orthonormal. Random matrices are seeded by the name of the layer, so that
they depend neither on the order of the layers nor on the device.
"""

from __future__ import annotations

import dataclasses
import re
import zlib
from collections.abc import Iterable, Mapping
from types import MappingProxyType

import torch
from torch import Tensor

from ..geometry import (
    full_precision,
    orthogonality_error,
    pseudo_inverse,
    qr_gauge,
    random_orthonormal,
    thin_svd,
)
from .pairs import Pair
from .rule import PairBatch, StateShape

__all__ = [
    "Gauge",
    "enter_stiefel_gauge",
    "enter_svd_gauge",
    "enter_where_needed",
    "name_seed",
    "needs_gauge",
    "orthonormal_start",
    "random_frame",
    "stiefel_gauge",
]

_NO_MOMENTS: Mapping[str, StateShape] = MappingProxyType({})
_WRAPPERS = re.compile(r"^(?:module\.|_orig_mod\.)+|(?<=\.)_orig_mod\.")

TOLERANCE = 1e-4
"""Pairs with max|B^T B - I| up to this value are not modified: resuming is exact."""


@dataclasses.dataclass(frozen=True)
class Gauge:
    """Change of coordinates B = Q R, in float64. ``r`` is ``(r, r)``."""

    r: Tensor

    def to_up(self, tensor: Tensor) -> Tensor:
        """Return the gradient or momentum of B in the new coordinates: G R^T."""
        return (tensor.flatten(1).double() @ self.r.mT).to(tensor.dtype).view_as(tensor)

    def to_down(self, tensor: Tensor) -> Tensor:
        """Return the gradient or momentum of A in the new coordinates: R^-T G."""
        moved = self._inverse_transpose() @ tensor.flatten(1).double()
        return moved.to(tensor.dtype).view_as(tensor)

    def to_down_squares(self, tensor: Tensor) -> Tensor:
        """Return the second moment of A in the new coordinates.

        Entries of the gradient are assumed to be uncorrelated.
        """
        moved = self._inverse_transpose().square() @ tensor.flatten(1).double()
        return moved.to(tensor.dtype).view_as(tensor)

    def _inverse_transpose(self) -> Tensor:
        # A rank-deficient B determines nothing about G along its missing directions;
        # the pseudo-inverse leaves those at zero instead of at infinity.
        return pseudo_inverse(self.r, 1e-6).mT


def needs_gauge(up: Tensor) -> bool:
    """Return whether B is not orthonormal up to rounding (synchronizes)."""
    with full_precision(up.device.type):
        return bool(orthogonality_error(up.flatten(1).float()) > TOLERANCE)


def stiefel_gauge(up: Tensor, down: Tensor) -> Gauge:
    """Replace (B, A) by (Q, R A) in place. The product is unchanged up to rounding."""
    # In float64, since the product must be preserved: with columns of very different
    # lengths in B, R holds small entries beside large ones.
    q, r = qr_gauge(up.flatten(1).double())
    down.copy_((r @ down.flatten(1).double()).view_as(down))
    up.copy_(q.view_as(up))
    return Gauge(r)


def enter_stiefel_gauge(up: Tensor, down: Tensor, name: str) -> Gauge | None:
    """Make B orthonormal in place. Return None if B is 0, and set A to 0."""
    if not up.any():
        orthonormal_start(up, down, name)
        return None
    return stiefel_gauge(up, down)


def enter_where_needed(pairs: Iterable[Pair]) -> list[Pair]:
    """Make every B orthonormal in place. Return the pairs that were changed."""
    changed = [pair for pair in pairs if needs_gauge(pair.up)]
    for pair in changed:
        enter_stiefel_gauge(pair.up, pair.down, pair.name)
    return changed


def orthonormal_start(up: Tensor, down: Tensor, name: str, seed: int = 0) -> None:
    """Set B to a random orthonormal matrix, seeded by name and seed, and A to 0."""
    rows, columns = up.flatten(1).shape
    point = random_frame(name, rows, columns, seed)
    up.copy_(point.view_as(up))
    down.zero_()


def enter_svd_gauge(
    batch: PairBatch, index: int, moments: Mapping[str, StateShape] = _NO_MOMENTS
) -> tuple[Tensor, Tensor]:
    """Transform a pair so that A has orthogonal rows: (B, A) := (B P, Sigma W^T).

    Factors, gradients and moments are changed in place. B^T B does not change.

    Args:
        batch: stacked pairs.
        index: index of the pair in the batch.
        moments: names and shapes of states that are transformed like the gradients.

    Returns:
        Sigma ``(r,)`` and W^T ``(r, in)``, float64.
    """
    down = batch.down[index]
    # The gradients follow by the same orthogonal P: those of B P and P^T A are G_B P
    # and P^T G_A.
    turn, sigma, right = thin_svd(down.double())
    turn = turn.to(down.dtype)
    batch.up[index] = batch.up[index] @ turn
    batch.grad_up[index] = batch.grad_up[index] @ turn
    batch.grad_down[index] = turn.mT @ batch.grad_down[index]
    for name, shape in moments.items():
        old = batch.state[name][index]
        batch.state[name][index] = old @ turn if shape == "up" else turn.mT @ old
    batch.down[index] = (sigma.unsqueeze(-1) * right).to(down.dtype)
    return sigma, right


def random_frame(name: str, rows: int, columns: int, seed: int = 0) -> Tensor:
    """Return a random matrix with orthonormal columns, float64 on the CPU."""
    key = name_seed(name, seed)
    return random_orthonormal(rows, columns, seed=key, dtype=torch.float64)


def name_seed(name: str, seed: int) -> int:
    """Return the seed of a layer. DDP and torch.compile do not change it."""
    return zlib.crc32(_WRAPPERS.sub("", name).encode()) ^ seed
