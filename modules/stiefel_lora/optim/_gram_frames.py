r"""Frames of both factors from Gram matrices, damped so that steps stay bounded.

With :math:`S_A = A A^T` and :math:`F_A^T F_A = S_A^{-1}` the rows of :math:`F_A A` are
orthonormal. A step of B of size :math:`\eta` in the product is long in these
coordinates where A is short, and A's step is long where B is short: where the product
is far smaller than a step, the product of the two steps would exceed both. Therefore

.. math::
    \tilde S_A = S_A + \delta^2 S_B^{-1}, \qquad
    \tilde S_B = S_B + \delta^2 S_A^{-1}, \qquad \delta = \eta / (2 g),

are used instead. With singular values :math:`\sigma` of BA and balanced factors these
are :math:`\sigma + \delta^2/\sigma`: no step changes a direction of its factor by more
than g times its length, and the product of both steps stays below
:math:`g \eta / 4`. They transform with the basis between B and A like :math:`S_A` and
:math:`S_B`, so a basis-independent method stays basis-independent. If a factor is 0,
there is no damping: the other one does not move.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from ..geometry import inverse_cholesky, trace

__all__ = ["SHARE", "Frames", "framed", "frames", "kept", "over", "unit"]

SHARE = {torch.float32: 2e-6, torch.float64: 1e-14}
"""Share of the trace below which a Gram matrix is not resolved."""

# The decay of one step leaves at least a hundredth of the product.
_LEAST_KEPT = 1e-2

# Beyond this, nothing is left of the damped matrix in float32 or float64.
_MOST = 1e12


class Frames(NamedTuple):
    """Frames of K pairs. ``over_up`` is F_A, by which B's gradients are divided.

    Both are those of Gram matrices of trace 1, ``(K, r, r)``, and ``up_size`` and
    ``down_size`` are the traces of S_B and S_A, ``(K, 1, 1)``.
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


def framed(frame: Tensor, gram: Tensor) -> Tensor:
    """F K F^T of a Gram matrix K of trace 1, kept positive definite.

    Entries of K are accurate to rounding of its trace, which F magnifies. The shift
    covers that rounding.
    """
    noise = 4 * torch.finfo(gram.dtype).eps * frame.square().sum((-2, -1), keepdim=True)
    identity = torch.eye(gram.shape[-1], dtype=gram.dtype, device=gram.device)
    return frame @ gram @ frame.mT + noise * identity


def unit(gram: Tensor) -> tuple[Tensor, Tensor]:
    """Divide by the trace. 0 stays 0. Also return the trace, ``(K, 1, 1)``."""
    size = trace(gram).clamp_min(0)
    tiny = torch.finfo(gram.dtype).tiny
    return gram / size.clamp_min(tiny), torch.where(size > tiny, size, 0.0)


def over(numerator: Tensor, denominator: Tensor) -> Tensor:
    """Return the ratio that is 0 where the denominator is 0."""
    tiny = torch.finfo(denominator.dtype).tiny
    ratio = numerator / denominator.clamp_min(tiny)
    return torch.where(denominator > tiny, ratio, 0.0)


def kept(lr: Tensor, decay: Tensor) -> Tensor:
    """sqrt(1 - lr decay), by which both factors shrink if the product decays."""
    return (1 - lr * decay).clamp_min(_LEAST_KEPT).sqrt()
