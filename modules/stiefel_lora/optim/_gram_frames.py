r"""Damped inverse square roots of the Gram matrices of both factors.

With :math:`S_A = A A^T` and :math:`F_A^T F_A = S_A^{-1}`, the rows of :math:`F_A A` are
orthonormal. In these coordinates, an update of B that changes the product B A by
:math:`\eta` is large in directions in which A is small, and vice versa. If the product
is much smaller than the update, the term :math:`\Delta B\,\Delta A` would be larger
than the intended update. Therefore

.. math::
    \tilde S_A = S_A + \delta^2 S_B^{-1}, \qquad
    \tilde S_B = S_B + \delta^2 S_A^{-1}, \qquad \delta = \eta / (2 g),

are used instead. With singular values :math:`\sigma` of BA and balanced factors, these
are :math:`\sigma + \delta^2/\sigma`. An update then changes no direction of its factor
by more than g times its length, and :math:`\Delta B\,\Delta A` stays below
:math:`g \eta / 4`. Under a change of basis between B and A, the damped matrices
transform like :math:`S_A` and :math:`S_B`, so a basis-independent method stays
basis-independent. If one factor is 0, the matrices are not damped and the other factor
is not updated.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from ..geometry import inverse_cholesky, trace

__all__ = [
    "SHARE",
    "Frames",
    "framed",
    "frames",
    "kept",
    "negligible",
    "over",
    "unit",
]

SHARE = {torch.float32: 2e-6, torch.float64: 1e-14}
"""Fraction of the trace below which entries of a Gram matrix are rounding errors."""

# The decay of one step leaves at least a hundredth of the product.
_LEAST_KEPT = 1e-2

# Beyond this, nothing is left of the damped matrix in float32 or float64.
_MOST = 1e12


class Frames(NamedTuple):
    """Inverse square roots F of the Gram matrices of K pairs.

    ``over_up`` is F_A, which preconditions the gradient of B; ``over_down`` is F_B.
    Both have shape ``(K, r, r)`` and belong to Gram matrices scaled to trace 1.
    ``up_size`` and ``down_size`` are the traces of S_B and S_A, ``(K, 1, 1)``.
    """

    over_up: Tensor
    over_down: Tensor
    up_size: Tensor
    down_size: Tensor

    def swapped(self) -> Frames:
        """Return the same frames with B and A exchanged."""
        return Frames(self.over_down, self.over_up, self.down_size, self.up_size)


def frames(up: Tensor, down: Tensor, step: Tensor) -> Frames:
    """Compute F of the damped Gram matrices.

    Args:
        up: S_B, ``(K, r, r)``.
        down: S_A, ``(K, r, r)``.
        step: delta, ``(K, 1, 1)``.
    """
    count, share = len(up), SHARE[up.dtype]
    # B's gradients are divided by A's frame, so A's Gram matrix comes first.
    grams, sizes = unit(torch.cat([down, up]))
    there = sizes > negligible(sizes.dtype)
    grams, sizes = torch.where(there, grams, 0.0), torch.where(there, sizes, 0.0)
    down_size, up_size = sizes.split(count)
    inner = inverse_cholesky(grams, torch.full_like(sizes, share))
    inverse = inner.mT @ inner
    other = torch.cat([inverse[count:], inverse[:count]])
    both = up_size * down_size
    tiny = torch.finfo(both.dtype).tiny
    ratio = (step.square() / both.clamp_min(tiny)).clamp_max(_MOST)
    ratio = torch.where(both > tiny, ratio, 0.0)
    damped = grams + torch.cat([ratio, ratio]) * other
    shift = share * trace(damped).clamp_min(1.0)
    over_up, over_down = inverse_cholesky(damped, shift).split(count)
    return Frames(over_up, over_down, up_size, down_size)


def negligible(dtype: torch.dtype) -> float:
    """Return the squared norm up to which a factor counts as 0 (norm 1e-10 in float32).

    Squares of its Gram matrix underflow, and their inverses overflow.
    """
    return torch.finfo(dtype).tiny ** 0.55


def framed(frame: Tensor, gram: Tensor) -> Tensor:
    """Compute F K F^T of a Gram matrix K of trace 1, shifted to stay positive definite.

    Entries of K have rounding errors in proportion to its trace, which F amplifies. The
    shift is larger than these errors.
    """
    noise = 4 * torch.finfo(gram.dtype).eps * frame.square().sum((-2, -1), keepdim=True)
    identity = torch.eye(gram.shape[-1], dtype=gram.dtype, device=gram.device)
    return frame @ gram @ frame.mT + noise * identity


def unit(gram: Tensor) -> tuple[Tensor, Tensor]:
    """Divide a matrix by its trace. Return the result and the trace, ``(K, 1, 1)``.

    A matrix of zeros stays 0.
    """
    size = trace(gram).clamp_min(0)
    tiny = torch.finfo(gram.dtype).tiny
    return gram / size.clamp_min(tiny), torch.where(size > tiny, size, 0.0)


def over(numerator: Tensor, denominator: Tensor) -> Tensor:
    """Divide elementwise. The result is 0 where the denominator is 0."""
    tiny = torch.finfo(denominator.dtype).tiny
    ratio = numerator / denominator.clamp_min(tiny)
    return torch.where(denominator > tiny, ratio, 0.0)


def kept(lr: Tensor, decay: Tensor) -> Tensor:
    """Return sqrt(1 - lr decay), the weight decay factor of A and of B."""
    return (1 - lr * decay).clamp_min(_LEAST_KEPT).sqrt()
