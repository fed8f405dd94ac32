r"""Norms of the products B A, and scaling of products to a smaller norm.

For methods with orthonormal B, A alone is multiplied by the factor c, so that B stays
orthonormal, and the state is transformed exactly: gradients of B are :math:`G A^T` with
the gradient G of the product, so momenta of B are multiplied by c and their second
moments by :math:`c^2` (:attr:`~stiefel_lora.optim.rule.Rule.scale_powers`). The tangent
vector that they represent does not change, since the tangent spaces at :math:`B A` and
:math:`c\,B A` are the same. For all other optimizers, both factors are multiplied by
:math:`\sqrt c`, and the state is not changed.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from .engine.stacking import bucketed, chunked, gather
from .pair_optimizer import PairOptimizer
from .pairs import Pair
from .rule import keeps_orthonormal

__all__ = ["product_norms", "scale_products"]


@torch.no_grad()
def product_norms(pairs: Sequence[Pair]) -> Tensor:
    """Compute the Frobenius norms of the products, float64 ``(len(pairs),)``.

    They are computed from r x r Gram matrices, without the products themselves.
    """
    norms: Tensor | None = None
    numbered = list(enumerate(pairs))
    for bucket in bucketed(numbered, lambda item: _shape_of(item[1])):
        for chunk in chunked(bucket, bucket[0][1].up.numel()):
            up = gather([pair.up for _, pair in chunk], torch.float32)
            down = gather([pair.down for _, pair in chunk], torch.float32)
            grams = (up.mT @ up).double(), (down @ down.mT).double()
            # tr(B^T B A A^T). Rounding may give a tiny negative number.
            squares = (grams[0] * grams[1]).sum((-2, -1)).clamp_min(0)
            if norms is None:
                norms = squares.new_zeros(len(pairs))
            norms[[index for index, _ in chunk]] = squares.sqrt().to(norms.device)
    return torch.zeros(0, dtype=torch.float64) if norms is None else norms


@torch.no_grad()
def scale_products(
    optimizer: torch.optim.Optimizer, pairs: Sequence[Pair], factors: Sequence[float]
) -> None:
    """Multiply the product of each pair by a positive factor, in place.

    Args:
        optimizer: optimizer that trains the pairs.
        pairs: pairs of parameters of the optimizer.
        factors: one factor per pair.
    """
    # Factors that a method leaves to AdamW are not orthonormal.
    owner = optimizer if isinstance(optimizer, PairOptimizer) else None
    if not keeps_orthonormal(owner):
        owner = None
    orthonormal = {id(pair.up) for pair in (owner.pairs if owner else ())}
    for pair, factor in zip(pairs, factors, strict=True):
        if owner is not None and id(pair.up) in orthonormal:
            owner.scale_down(pair, factor)
        else:
            pair.up.mul_(factor**0.5)
            pair.down.mul_(factor**0.5)


def _shape_of(pair: Pair) -> tuple[object, ...]:
    up, down = pair.matrices
    return up.shape, down.shape, up.device
