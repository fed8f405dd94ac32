r"""Initialize LoRA pairs with the factors of a LoRA file.

The file contains a product :math:`\frac{\alpha}{r} B A` of any rank. If its rank is
lower than that of the pair, directions are added that do not change the product. If it
is higher, the product is truncated with an SVD, which is the best approximation in the
Frobenius norm (Eckart and Young).
"""

from __future__ import annotations

import dataclasses

import torch
from torch import Tensor

from ..files.weights import LoraFactors
from ..geometry import truncate_factored
from ..optim.pairs import Pair

__all__ = ["GivenStart", "set_factors"]


@dataclasses.dataclass(frozen=True)
class GivenStart:
    """Result of :func:`set_factors` for one layer."""

    norm: float
    """Frobenius norm of the given product, including its scale."""

    lost: float
    """Frobenius norm of the truncated part."""


@torch.no_grad()
def set_factors(
    pair: Pair, given: LoraFactors, scale: float, *, orthonormal: bool
) -> GivenStart:
    r"""Set the factors of a pair so that :math:`sBA` equals a given product.

    Args:
        pair: initialized factors B and A, which are changed in place. If the rank of
            the product is lower, the other directions are taken from them.
        given: factors with alpha. Their rank can differ from that of the pair.
        scale: scale s of the layer.
        orthonormal: whether B must be orthonormal.
    """
    rank = pair.rank
    up = given.up.flatten(1).to(torch.float64)
    down = given.down.flatten(1).to(torch.float64) * (given.scale / scale)
    if given.rank <= rank and not orthonormal:
        # The factors themselves: an optimizer that scales with them continues at the
        # same point.
        _fill(pair, up, down)
        return GivenStart(scale * float(_norm(up, down)), 0.0)
    kept = min(rank, given.rank)
    u, sigma, v = truncate_factored(up, down.mT, min(given.rank, *up.shape))
    if orthonormal:
        u = _completed(u[:, :kept], pair.up.flatten(1).to(u))
    down = sigma[:kept, None] * v[:, :kept].mT
    _fill(pair, u if orthonormal else u[:, :kept], down)
    norm, lost = sigma.norm(), sigma[kept:].norm()
    return GivenStart(scale * float(norm), scale * float(lost))


def _fill(pair: Pair, up: Tensor, down: Tensor) -> None:
    """Write the first columns of B and rows of A. The others do not contribute.

    If ``up`` has fewer columns than B, the other columns of B are set to zero and the
    other rows of A keep their initialization. Otherwise, the other rows of A are zero.
    """
    kept = down.shape[0]
    whole_up = torch.zeros_like(pair.up.flatten(1))
    whole_up[:, : up.shape[1]] = up.to(whole_up)
    whole_down = pair.down.flatten(1).clone()
    if up.shape[1] > kept:
        whole_down.zero_()
    whole_down[:kept] = down.to(whole_down)
    pair.up.copy_(whole_up.view_as(pair.up))
    pair.down.copy_(whole_down.view_as(pair.down))


def _completed(u: Tensor, start: Tensor) -> Tensor:
    """Extend orthonormal columns with directions of ``start``.

    Args:
        u: orthonormal columns, of shape (out, k).
        start: matrix of full rank, of shape (out, r), where k <= r <= out.
    """
    if u.shape[1] == start.shape[1]:
        return u
    rest = start - u @ (u.mT @ start)
    # The complement of u in the span of both has at least r - k directions.
    left, _, _ = torch.linalg.svd(rest, full_matrices=False)
    new = left[:, : start.shape[1] - u.shape[1]]
    new = new - u @ (u.mT @ new)
    return torch.cat([u, torch.linalg.qr(new).Q], -1)


def _norm(up: Tensor, down: Tensor) -> Tensor:
    """Compute the Frobenius norm of a product from r x r Gram matrices."""
    return ((up.mT @ up) * (down @ down.mT)).sum().clamp_min(0.0).sqrt()
