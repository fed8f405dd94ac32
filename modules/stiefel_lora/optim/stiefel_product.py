r"""StiefelLoRA's step of the product: one move of B A instead of one per factor.

At :math:`W = B A` with :math:`B^T B = I` and :math:`A^T = R H` (:math:`R^T R = I`) a
tangent vector of the rank-r matrices is :math:`\xi = X_L R^T + B X_R^T` with
:math:`B^T X_L = 0`. The gradients of the factors give the Riemannian gradient exactly,
:math:`X_L = (I - B B^T) G_B H^{-1}` and :math:`X_R = G_A^T`. One step, with the
learning rate :math:`\eta` as the spectral norm of the product's step:

.. math::
    \xi &\leftarrow \mathrm{grad} + \mu\,P_T(\xi_{\mathrm{old}}) \\
    D &= P_T(\mathrm{msign}(\xi)) = D_L R^T + B D_R^T \\
    B &\leftarrow (B - \Xi)(I + S)^{-1/2},
        \quad \Xi = \eta D_L H^{-1},\quad S = \Xi^T\Xi \\
    A &\leftarrow B_{\mathrm{new}}^T\,(W - \eta D - \eta\lambda W)

**Momentum as a gradient.** The state is what the gradients of the factors would be if
:math:`\xi` were the gradient of the product: :math:`M_B = \xi A^T` and
:math:`M_A = B^T\xi`. So :math:`M \leftarrow \mu M + G` is the sum of the tangent
vectors, a change of gauge treats moments like gradients, and the transport, which is
the projection of :math:`\xi_{\mathrm{old}}` at the new point, is one linear combination
a factor at the end of the step, where both points are at hand. No frame is stored.

**Cost.** Both passes over the tall matrices are products with r x r matrices; between
them everything is r x r or 2r x 2r, for all layers in one stack, without waiting for
the device. Frames come from Cholesky factors of Gram matrices:
:math:`R^T = C^{-1} A` with :math:`C C^T = A A^T + \delta^2 I`. msign does not depend on
the basis that is taken, so neither does the step.

**Small singular values.** A direction of A below :math:`\delta = \eta / 3` is smaller
than a step, and B could turn it by any angle without changing the product much. The
damping shortens what it contributes and bounds the turn of B:
:math:`\|\Xi\|_2 \le \eta\,\|D_L\|_2 / \delta \le 3`, that is 72 degrees.

References:
    "Riemannion", 2025, arXiv:2507.12142 (msign of the tangent momentum, in the SVD
    gauge with QR and SVD of tall matrices; same direction to second order in eta).
    B. Vandereycken, "Low-Rank Matrix Completion by Riemannian Optimization", 2013,
    section 2 (tangent space, projection as transport).
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from ..geometry import (
    damped_frame,
    inverse_sqrt_of_retraction,
    joint_polar_core,
    trace,
)
from ._heavy_ball import heavy_ball
from .factor_rule import Core, FactorBatch, FactorRule

__all__ = ["ProductDown", "ProductUp", "solve_product"]

# eta / delta, the largest tangent of an angle that B turns by in one step.
STEEPEST = 3.0

# Share of the trace below which a Gram matrix is not resolved: in float32 its entries
# hold squares to some 1e-7 of it.
_UNRESOLVED = {torch.float32: 2e-6, torch.float64: 1e-14}


class ProductUp(FactorRule):
    """B and its momentum: Gram matrices, then linear combinations of the two."""

    moves_state = True

    def look(self, batch: FactorBatch) -> Core:
        """Add the gradient; return B^T M and the Gram matrix of X = (I - B B^T) M.

        X is formed: from Gram matrices of B and M alone, X^T X would be a small
        difference of large numbers.
        """
        point, momentum = batch.point, heavy_ball(batch, "momentum_up")
        along = point.mT @ momentum
        outside = torch.baddbmm(momentum, point, along, alpha=-1)
        return {"along": along, "outside": outside.mT @ outside}

    def move(self, batch: FactorBatch, core: Core) -> None:
        """B <- B u_1 + M u_2 and M <- B v_1 + M v_2, then clean B up.

        The coefficients make B orthonormal up to rounding, which u_2 amplifies where A
        is ill conditioned. One Newton-Schulz step squares what is left of it.
        """
        point, momentum = batch.point, batch.state["momentum_up"]
        moved = torch.baddbmm(point @ core["u1"], momentum, core["u2"])
        batch.state["momentum_up"] = torch.baddbmm(
            point @ core["v1"], momentum, core["v2"]
        )
        batch.point = torch.baddbmm(
            moved, moved, moved.mT @ moved, beta=1.5, alpha=-0.5
        )


class ProductDown(FactorRule):
    """A and its momentum, likewise."""

    moves_state = True

    def look(self, batch: FactorBatch) -> Core:
        """Add the gradient; return A A^T, A M^T and M M^T."""
        point, momentum = batch.point, heavy_ball(batch, "momentum_down")
        return {
            "size": point @ point.mT,
            "cross": point @ momentum.mT,
            "force": momentum @ momentum.mT,
        }

    def move(self, batch: FactorBatch, core: Core) -> None:
        """A <- t_1 A + t_2 M and M <- t_3 A + t_4 M."""
        point, momentum = batch.point, batch.state["momentum_down"]
        batch.point = torch.baddbmm(core["t1"] @ point, core["t2"], momentum)
        batch.state["momentum_down"] = torch.baddbmm(
            core["t3"] @ point, core["t4"], momentum
        )


class _Direction(NamedTuple):
    """The direction D as coefficients, ``(K, r, r)`` each, and the frame's inverse.

    With X = (I - B B^T) M_B: Xi = eta X turn, D_R^T = inside A + along M_A, and
    frame^T frame = (A A^T + delta^2 I)^-1.
    """

    frame: Tensor
    turn: Tensor
    inside: Tensor
    along: Tensor


def solve_product(up: Core, down: Core, lr: Tensor, decay: Tensor) -> tuple[Core, Core]:
    """Turn the Gram matrices of K pairs of one rank into coefficients of the move.

    Args:
        up: of :meth:`ProductUp.look`, each ``(K, r, r)``.
        down: of :meth:`ProductDown.look`.
        lr: eta, spectral norm of the product's step, ``(K, 1, 1)``.
        decay: lambda, weight decay of the product, ``(K, 1, 1)``.

    Returns:
        Coefficients for the two ``move``.
    """
    outside, size, cross = up["outside"], down["size"], down["cross"]
    found = _direction(outside, down, lr)
    turn = _resolved(lr * found.turn, outside)
    square = turn.mT @ outside @ turn
    identity = torch.eye(square.shape[-1], dtype=square.dtype, device=square.device)
    root = inverse_sqrt_of_retraction(square + identity, STEEPEST)
    u1, u2 = root, -turn @ root
    t1 = root @ ((1 - lr * decay) * identity + square - lr * found.inside)
    t2 = -lr * (root @ found.along)
    # The carried momentum is xi = X F^T F A + B M_A, F the frame, as the gradients it
    # has at the new point: xi A_new^T without its part in B_new, and B_new^T xi.
    v2 = found.frame.mT @ (found.frame @ (size @ t1.mT + cross @ t2.mT))
    v1 = cross.mT @ t1.mT + down["force"] @ t2.mT
    inside = u2.mT @ (outside @ v2) + u1.mT @ v1
    v1, v2 = v1 - u1 @ inside, v2 - u2 @ inside
    t3 = (u2.mT @ outside) @ found.frame.mT @ found.frame
    # X is not kept: X u = M u - B (B^T M) u.
    along = up["along"]
    return (
        {"u1": u1 - along @ u2, "u2": u2, "v1": v1 - along @ v2, "v2": v2},
        {"t1": t1, "t2": t2, "t3": t3, "t4": root},
    )


def _direction(outside: Tensor, down: Core, lr: Tensor) -> _Direction:
    """P_T(msign(xi)) from Gram matrices.

    With X_L = U C^T orthonormalized in the same way as R, xi = [U, B] Y with
    Y = [C^T R^T; X_R^T], so msign(xi) = [U, B] (Y Y^T)^(-1/2) Y.
    """
    size = down["size"]
    share, tiny = _UNRESOLVED[size.dtype], torch.finfo(size.dtype).tiny
    _, frame = damped_frame(size, (lr / STEEPEST) ** 2 + share * trace(size) + tiny)
    overlap = frame @ size @ frame.mT
    cross = frame @ down["cross"]
    left = frame @ outside @ frame.mT
    # Gradients are tiny beside unit frames, and only their ratio counts. Where both are
    # 0 there is no direction: scale 0 makes everything that follows 0.
    square = torch.maximum(trace(left), trace(down["force"]))
    scale = torch.where(square > tiny, square.clamp_min(tiny).rsqrt(), 0.0)
    square = square.clamp_min(tiny)
    left, force, cross = left / square, down["force"] / square, cross * scale
    factor, inverse = damped_frame(left, share * trace(left) + tiny)
    top, beside = factor.mT @ overlap, factor.mT @ cross
    upper = torch.cat([top @ factor, beside], -1)
    core = joint_polar_core(torch.cat([upper, torch.cat([beside.mT, force], -1)], -2))
    rank = size.shape[-1]
    above, below = core.split(rank, dim=-2)
    found = inverse.mT @ (above[..., :rank] @ top + above[..., rank:] @ cross.mT)
    return _Direction(
        frame,
        frame.mT @ (found * scale) @ frame,
        below[..., :rank] @ factor.mT @ frame,
        below[..., rank:] * scale,
    )


def _resolved(turn: Tensor, outside: Tensor) -> Tensor:
    """Shorten a turn whose Gram matrix would be rounding of large numbers.

    The entries of X^T X are right to eps of its trace, so those of the step's Gram
    matrix to eps tr(X^T X) ||turn||_F^2; at 1e-3 the clean-up of B still succeeds.
    """
    eps = torch.finfo(turn.dtype).eps
    error = eps * trace(outside) * turn.square().sum((-2, -1), keepdim=True)
    return turn * (1e-3 / error.clamp_min(1e-3)).sqrt()
