r"""LoRA-TSD: spectral descent in the tangent space of the product.

With orthonormal bases U of the columns of B and V of the rows of A, momenta M of the
gradients and the learning rate :math:`\eta`, a tangent vector of the matrices of rank r
is :math:`X = X_L V^T + U X_R^T`. One step:

.. math::
    M &\leftarrow \mu M + G \\
    X &= M_B (A A^T)^{-1} A + B (B^T B)^{-1} M_A (I - V V^T) \\
    X &\leftarrow P_T(\mathrm{msign}(X)) \quad \tau \text{ times}, \qquad
        P_T(Z) = U U^T Z + Z V V^T - U U^T Z V V^T \\
    X &\leftarrow X \min(1,\; \Delta / (\eta \|X\|_F)) \\
    \Delta B &= -\eta X A^T (A A^T)^{-1}, \qquad
        \Delta A = -(B^T B)^{-1} B^T (\eta X + \Delta B\,A)

so that :math:`B\,\Delta A + \Delta B\,A = -\eta X` exactly. The trust region
:math:`\Delta` bounds the Frobenius norm of the update. The published code averages
gradients, which has the same direction, and scales the factors to the same Frobenius
norm in each step. Here, they are scaled by 16, without rounding errors, and only if one
norm exceeds 16 times the other, because averages of factors (EMA) are invalid after a
change of scale. The update depends on neither. The momentum of the paper is 0.95, which
is slow for runs of a hundred steps. Weight decay, which the paper does not have,
shrinks the product by :math:`\lambda\eta`.

**Differences from the published code.** msign is computed with Polar Express, which
shrinks directions at the level of rounding errors. The published code uses five quintic
iterations with resulting singular values of 0.3 to 1.3, so that a larger tau improves
msign. Here, a larger tau brings X closer to a tangent vector whose singular values are
all 1. In directions in which the product is smaller than one update, updates are scaled
down as described in :mod:`._gram_frames`. Otherwise, after a start with B = 0, rounding
errors could cause updates of A of any size.

**Cost.** In orthonormal bases [Q, U] of the columns and [V, R] of the rows, X is a 2r x
2r matrix whose block (Q, R) is 0, and P_T sets that block to 0. Bases are computed from
Cholesky factors of Gram matrices, so each factor needs five products with tall matrices
for any tau.

References:
    "LoRA-TSD", 2026, arXiv:2609.02734, and its code.
"""

from __future__ import annotations

import functools
from collections.abc import Mapping
from typing import Any, NamedTuple

import torch
from torch import Tensor

from ..geometry import (
    damped_cholesky,
    inverse_cholesky,
    joint_polar_core,
    polar_core,
    trace,
)
from ._gram_frames import SHARE, Frames, frames, kept, over, unit
from ._moments import heavy_ball
from ._two_alike import AlikeFactor, AlikeRule
from .groups import Source
from .pair_optimizer import PairOptimizer
from .rule import Core, FactorBatch, Solver

__all__ = ["LoRATSD"]

# Maximum change of a direction of a factor per step, in any basis, relative to its
# length.
_GROWTH = 0.5
# Beyond this ratio of step and product, nothing is left of a move.
_MOST = 1e12


class TsdFactor(AlikeFactor):
    """Update rule of one factor and its momentum; A is transposed."""

    moves_state = True

    def look(self, batch: FactorBatch) -> Core:
        """Add the gradient. Return X^T X, X^T M and M^T M."""
        momentum = self._tall(heavy_ball(batch, f"momentum_{self.role}"))
        point = self._tall(batch.point)
        return {
            "size": point.mT @ point,
            "cross": point.mT @ momentum,
            "force": momentum.mT @ momentum,
        }

    def move(self, batch: FactorBatch, core: Core) -> None:
        """Update X <- X u + M v. The momentum is scaled by the inverse scale of X."""
        name = f"momentum_{self.role}"
        momentum = self._tall(batch.state[name])
        moved = self._tall(batch.point) @ core["of_point"]
        batch.point = self._tall(torch.baddbmm(moved, momentum, core["of_momentum"]))
        batch.state[name] = batch.state[name] * core["scale"]


class _Side(NamedTuple):
    """Momentum of one factor in orthonormal bases, as r x r matrices.

    Let F be the inverse square root of the other factor's Gram matrix, N = M F^T, and U
    an orthonormal basis of the factor. ``factor`` is the lower triangular L with L L^T
    = N^T (I - U U^T) N, and ``inside`` is U^T N. The columns of (I - U U^T) N L^-T are
    orthonormal. ``strength`` is the trace of M^T M. ``overlap`` is the 16th power of
    the Gram matrix of the columns of N L^-T. It is I except for directions of rounding
    errors, which are multiplied by it because they would otherwise grow with each
    msign.
    """

    factor: Tensor
    inside: Tensor
    strength: Tensor
    overlap: Tensor


def solve(
    up: Core, down: Core, lr: Tensor, numbers: Mapping[str, Tensor], *, rounds: int
) -> tuple[Core, Core]:
    """Compute the coefficients of both updates from the r x r matrices of K pairs."""
    # Without damping: X itself is exact, and only the two moves are shortened
    # (_shares).
    tight = frames(up["size"], down["size"], torch.zeros_like(lr))
    sizes = tight.up_size.sqrt(), tight.down_size.sqrt()
    left = _side(up, tight, sizes[0])
    right = _side(down, tight.swapped(), sizes[1])
    core = _tangent(left, right, sizes)
    rank = left.factor.shape[-1]
    for _ in range(rounds):
        core = _project(core @ joint_polar_core(core.mT @ core), left, right)
    length = _norm(core)
    eta = lr * over(numbers["trust_region"], lr * length).clamp_max(1.0)
    ratio = eta / _GROWTH * over(torch.ones_like(lr), sizes[0] * sizes[1])
    shares = _shares(tight, ratio.clamp_max(_MOST))
    above, below = core.split(rank, -2)
    outer, inner = shares[0] @ tight.over_up, shares[1] @ tight.over_down
    # B moves the columns of V, that is both blocks on the left. What remains for A is
    # the block of (U, R).
    moves = (
        _move(left, above[..., :rank] @ outer, below[..., :rank] @ outer, tight, sizes),
        _move(
            right, below[..., rank:].mT @ inner, 0 * inner, tight.swapped(), sizes[::-1]
        ),
    )
    keep = kept(lr, numbers["weight_decay"])
    balance = _balance(tight)
    scales = 1 / balance, balance
    found = [
        _coefficients(move, keep, over(eta, size), scale)
        for move, size, scale in zip(moves, sizes[::-1], scales, strict=True)
    ]
    return found[0], found[1]


def _side(seen: Core, tight: Frames, size: Tensor) -> _Side:
    """Express the momentum of B in orthonormal bases; for A, swap the frames."""
    own, other = tight.over_down, tight.over_up
    force, strength = unit(seen["force"])
    inside = own @ over(seen["cross"], size * strength.sqrt()) @ other.mT
    outside = other @ force @ other.mT - inside.mT @ inside
    factor = damped_cholesky(outside, _noise(own, other, inside))
    half = torch.linalg.solve_triangular(factor, outside, upper=False)
    overlap = torch.linalg.solve_triangular(factor, half.mT, upper=False)
    # Below a half it must cancel the amplification of one msign, some 4,000 times.
    for _ in range(4):
        overlap = overlap @ overlap
    return _Side(factor, inside, strength, overlap)


def _noise(own: Tensor, other: Tensor, inside: Tensor) -> Tensor:
    """Estimate the rounding errors of N^T N - (U^T N)^T U^T N."""
    rank, eps = own.shape[-1], torch.finfo(own.dtype).eps
    own, other, inside = (_norm(matrix) for matrix in (own, other, inside))
    rounding = other * (other + 2 * own * inside / rank**0.5)
    # The shift in Cholesky's algorithm makes U too short by the same amount.
    short = 16 * SHARE[own.dtype] * (own * inside / rank).square()
    return 4 * eps / rank**0.5 * rounding + short + torch.finfo(own.dtype).tiny


def _norm(matrix: Tensor) -> Tensor:
    return torch.linalg.matrix_norm(matrix, keepdim=True)


def _tangent(left: _Side, right: _Side, sizes: tuple[Tensor, Tensor]) -> Tensor:
    """Return X in the bases [Q, U] and [V, R], up to a scale that msign removes."""
    up, down = (
        over(side.strength.sqrt(), size)
        for side, size in zip((left, right), sizes[::-1], strict=True)
    )
    most = torch.maximum(up, down)
    up, down = over(up, most), over(down, most)
    above = torch.cat([up * left.factor.mT, torch.zeros_like(left.factor)], -1)
    below = torch.cat([up * left.inside, down * right.factor], -1)
    return _project(torch.cat([above, below], -2), left, right)


def _project(core: Tensor, left: _Side, right: _Side) -> Tensor:
    """Apply P_T: set the block (Q, R) to 0 and shrink directions of rounding errors."""
    rank = left.factor.shape[-1]
    above, below = core.split(rank, -2)
    outside = torch.zeros_like(above[..., rank:])
    above = torch.cat([left.overlap @ above[..., :rank], outside], -1)
    below = torch.cat([below[..., :rank], below[..., rank:] @ right.overlap], -1)
    return torch.cat([above, below], -2)


def _shares(tight: Frames, step: Tensor) -> tuple[Tensor, Tensor]:
    """Return (I + step^2 C C^T)^(-1/2) and (I + step^2 C^T C)^(-1/2), C = F_A F_B^T.

    With J the inverse of the sum, this is J J^(-1/2). Its small eigenvalues may be too
    small.
    """
    cross = step * (tight.over_up @ tight.over_down.mT)
    squares = torch.cat([cross @ cross.mT, cross.mT @ cross])
    root = inverse_cholesky(squares, 1 + SHARE[squares.dtype] * trace(squares))
    inverse = root.mT @ root
    first, second = (inverse @ polar_core(inverse)).split(len(step))
    return first, second


def _move(
    side: _Side,
    outside: Tensor,
    inside: Tensor,
    tight: Frames,
    sizes: tuple[Tensor, Tensor],
) -> tuple[Tensor, Tensor]:
    """Return the coefficients of the factor and its momentum in the update.

    The update is Q ``outside`` + U ``inside``.
    """
    spread = torch.linalg.solve_triangular(side.factor.mT, outside, upper=True)
    of_momentum = over(tight.over_up.mT @ spread, side.strength.sqrt())
    of_point = tight.over_down.mT @ (inside - side.inside @ spread)
    return over(of_point, sizes[0]), of_momentum


def _coefficients(
    move: tuple[Tensor, Tensor], keep: Tensor, length: Tensor, scale: Tensor
) -> Core:
    of_point, of_momentum = (-length / keep * part for part in move)
    identity = torch.eye(of_point.shape[-1], dtype=of_point.dtype).to(of_point.device)
    return {
        "of_point": scale * (keep * identity + of_point),
        "of_momentum": scale * of_momentum,
        "scale": 1 / scale,
    }


def _balance(tight: Frames) -> Tensor:
    """Return the power of 16 by which A is multiplied and B divided; 1 if one is 0."""
    # The ratio itself may overflow.
    logs = [
        torch.where(size > 0, size, 1.0).log2()
        for size in (tight.up_size, tight.down_size)
    ]
    usable = (tight.up_size > 0) & (tight.down_size > 0)
    exponent = torch.where(usable, 0.25 * (logs[0] - logs[1]), 0.0)
    return torch.ldexp(torch.ones_like(exponent), 4 * (exponent / 4).round())


class LoRATSDRule(AlikeRule):
    """Update rule in the docstring of this module, in two passes."""

    factor = TsdFactor
    own = ("trust_region",)
    of_pair = ("trust_region",)

    def choices(self, group: Mapping[str, Any]) -> dict[str, Any]:
        """Return the option ``tau``, the number of rounds."""
        return {"tau": group["tau"]}

    def solver(self, choices: Mapping[str, Any]) -> Solver | None:
        """Return the solver. The update of the product needs both factors."""
        return functools.partial(solve, rounds=choices["tau"])


class LoRATSD(PairOptimizer):
    """LoRA-TSD optimizer: spectral descent in the tangent space of the product B A.

    The update of the product does not depend on its factorization. LoRA alpha must
    equal the rank. The optimizer can only check this if it receives the model.

    Args:
        params: model, named parameters, or iterable of parameters or parameter groups
            to optimize.
        lr: spectral norm of the update of the product B A, up to a factor of 2 /
            sqrt(3).
        tau: number of rounds of orthogonalization (msign) and projection. 1 is the
            fastest.
        trust_region: maximum Frobenius norm of the update of the product B A.
        momentum: momentum factor mu of both factors, in [0, 1).
        rest_lr_ratio: AdamW learning rate of parameters outside pairs, as a multiple of
            lr.
        weight_decay: weight decay of the product (times lr). Each factor contributes
            half of it.
        beta1: beta1 of AdamW for parameters outside pairs.
        beta2: beta2 of AdamW for parameters outside pairs.
        eps: epsilon of AdamW for parameters outside pairs.

    Raises:
        OptionError: If an option is out of bounds.
        PairingError: If parameters cannot be assigned to A and B unambiguously.
    """

    method = "lora_tsd"
    rule = LoRATSDRule()

    def __init__(
        self,
        params: Source,
        lr: float | Tensor = 5e-3,
        *,
        tau: int = 1,
        trust_region: float = 0.1,
        momentum: float = 0.9,
        rest_lr_ratio: float = 0.05,
        weight_decay: float = 0.0,
        beta1: float = 0.9,
        beta2: float = 0.999,
        eps: float = 1e-8,
    ) -> None:
        options = {
            "tau": tau,
            "trust_region": trust_region,
            "momentum": momentum,
            "rest_lr_ratio": rest_lr_ratio,
            "weight_decay": weight_decay,
            "beta1": beta1,
            "beta2": beta2,
            "eps": eps,
        }
        super().__init__(params, lr, options)
