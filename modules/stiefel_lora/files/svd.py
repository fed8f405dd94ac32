r"""Reduction of the rank of a LoRA by SVD.

With the SVD :math:`(\alpha/r)\,BA = U\Sigma V^T`, the new factors are B = U and A =
Sigma V^T with alpha = rank. The result is exact at the rank of the product, and the
best approximation in the Frobenius norm for lower ranks (Eckart and Young).
"""

from __future__ import annotations

import math

from .._exceptions import ModelError
from ..geometry import truncate_factored
from .weights import LoraFactors, LoraWeights

__all__ = ["compress"]


def compress(weights: LoraWeights, rank: int) -> tuple[LoraWeights, float]:
    """Reduce every layer to at most ``rank``.

    Args:
        weights: LoRA to reduce.
        rank: rank r of the result.

    Returns:
        Factors of the LoRA in float64 with orthonormal B, and the relative error of all
        updates in the Frobenius norm.

    Raises:
        ModelError: If a layer is a DoRA.
    """
    found, lost, whole = {}, 0.0, 0.0
    for name, factors in weights.items():
        if factors.is_dora:
            raise ModelError(
                f"{name} is a DoRA, whose rank cannot be changed. Only plain LoRAs "
                "can be resized."
            )
        up = factors.up.flatten(1).double()
        down = factors.down.flatten(1).double() * factors.scale
        kept = min(rank, factors.rank, up.shape[0], down.shape[1])
        u, sigma, v = truncate_factored(up, down.mT, factors.rank)
        whole += float(sigma.square().sum())
        lost += float(sigma[kept:].square().sum())
        new_down = sigma[:kept, None] * v[:, :kept].mT
        found[name] = LoraFactors(
            up=u[:, :kept].reshape(-1, kept, *factors.up.shape[2:]),
            down=new_down.reshape(kept, *factors.down.shape[1:]),
            alpha=float(kept),
        )
    return found, math.sqrt(lost / whole) if whole else 0.0
