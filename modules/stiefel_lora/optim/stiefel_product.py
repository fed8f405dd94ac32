r"""Update of the product B A in StiefelLoRA, instead of separate updates of B and A.

At :math:`W = B A` with :math:`B^T B = I` and :math:`A^T = R H` (:math:`R^T R = I`), a
tangent vector of the rank-r matrices is :math:`\xi = X_L R^T + B X_R^T` with :math:`B^T
X_L = 0`. The gradients of the factors give the Riemannian gradient exactly, :math:`X_L
= (I - B B^T) G_B H^{-1}` and :math:`X_R = G_A^T`. The learning rate :math:`\eta` is the
spectral norm of the update of the product. One step:

.. math::
    \xi &\leftarrow \mathrm{grad} + \mu\,P_T(\xi_{\mathrm{old}}) \\
    D &= P_T(\mathrm{msign}(\xi)) = D_L R^T + B D_R^T \\
    B &\leftarrow (B - \Xi)(I + S)^{-1/2},
        \quad \Xi = \eta D_L H^{-1},\quad S = \Xi^T\Xi \\
    A &\leftarrow B_{\mathrm{new}}^T\,(W - \eta D - \eta\lambda W)

**Momentum.** The state is :math:`M_B = \xi A^T` and :math:`M_A = B^T\xi`, which would
be the gradients of the factors if :math:`\xi` were the gradient of the product. So
:math:`M \leftarrow \mu M + G` is the sum of the tangent vectors, and a change of gauge
transforms the momentum like gradients. The transport, which is the projection of
:math:`\xi_{\mathrm{old}}` at the new point, is one linear combination per factor at the
end of the step, where both points are available. No basis is stored.

**Cost.** Both passes over the tall matrices are products with r x r matrices. Between
the passes, all matrices are r x r or 2r x 2r, are stacked over all layers, and nothing
synchronizes. Orthonormal bases are computed from Cholesky factors of Gram matrices:
:math:`R^T = C^{-1} A` with :math:`C C^T = A A^T + \delta^2 I`. msign does not depend on
the choice of the basis, and neither does the update.

**Small singular values.** Where a singular value of A is below :math:`\delta = \eta /
3`, the product is smaller than one update, and B could rotate by any angle without
changing the product much. The damping reduces these contributions and bounds the
rotation of B: :math:`\|\Xi\|_2 \le \eta\,\|D_L\|_2 / \delta \le 3`, that is 72 degrees.

**Resolution.** With :math:`X = (I - B B^T) M_B` and :math:`X^T X + \nu I = C C^T`,
where :math:`\nu` is the rounding error of the entries of :math:`X^T X`, the columns of
:math:`U = X C^{-T}` are orthonormal where X is resolved. Elsewhere they consist of
rounding errors, and :math:`U^T U` removes them from the rotation of B.

References:
    "Riemannion", 2025, arXiv:2507.12142 (msign of the tangent momentum with QR and SVD
of tall matrices; same direction to second order in eta).
    B. Vandereycken, "Low-Rank Matrix Completion by Riemannian Optimization", 2013,
    section 2 (tangent space, projection as transport).
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from ..geometry import (
    cross_gram,
    damped_cholesky,
    gram_of,
    inverse_cholesky,
    inverse_sqrt_of_retraction,
    joint_polar_core,
    trace,
)
from ._moments import heavy_ball
from .rule import Core, FactorBatch, FactorRule

__all__ = ["ProductDown", "ProductUp", "solve_product"]

# eta / delta, the maximum tangent of the angle by which B rotates in one step.
STEEPEST = 3.0

# Fraction of the trace below which a Gram matrix is not resolved: in float32, its
# entries hold squares to some 1e-7 of it.
_UNRESOLVED = {torch.float32: 2e-6, torch.float64: 1e-14}

# Maximum error of the Gram matrix of an update of B, of which the reorthonormalization
# leaves a third of the cube.
_CORRECTABLE = {torch.float32: 3e-2, torch.float64: 1e-5}

# nu as a multiple of eps tr(M^T M), by which the entries of X^T X may be wrong. Where X
# has no part, U keeps the ratio of the error to nu, amplified by the inverse of A. In
# float64, there is room for more distance.
_NOISE = {torch.float32: 10, torch.float64: 200}

# Lower bound of delta^2, for A = 0 in the first step of a warm-up, at a rate of 0. Its
# inverse times any Gram matrix is finite in float32.
_LEAST_SHIFT = 1e-20


class ProductUp(FactorRule):
    """Update rule of B and its momentum."""

    moves_state = True

    def look(self, batch: FactorBatch) -> Core:
        """Add the gradient. Return B^T B, B^T M and M^T M."""
        point, momentum = batch.point, heavy_ball(batch, "momentum_up")
        return {
            "own": gram_of(point),
            "along": cross_gram(point, momentum),
            "whole": gram_of(momentum),
        }

    def move(self, batch: FactorBatch, core: Core) -> None:
        """Update [B, M] <- B [u_1, v_1] + M [u_2, v_2], then reorthonormalize B.

        The coefficients make B orthonormal up to rounding, which u_2 amplifies if A is
        ill conditioned. One Newton-Schulz step of third order cubes the remaining
        error.
        """
        rank = batch.point.shape[-1]
        # In place: out of place, the first product would be copied.
        both = batch.point @ core["of_point"]
        both.baddbmm_(batch.state["momentum_up"], core["of_momentum"])
        moved, batch.state["momentum_up"] = both[..., :rank], both[..., rank:]
        own = gram_of(moved)
        step = torch.baddbmm(own, own, own, beta=-1.25, alpha=0.375)
        batch.point = torch.baddbmm(moved, moved, step, beta=1.875)


class ProductDown(FactorRule):
    """Update rule of A and its momentum."""

    moves_state = True

    def look(self, batch: FactorBatch) -> Core:
        """Add the gradient. Return A A^T, A M^T and M M^T."""
        point, momentum = batch.point, heavy_ball(batch, "momentum_down")
        return {
            "size": point @ point.mT,
            "cross": point @ momentum.mT,
            "force": momentum @ momentum.mT,
        }

    def move(self, batch: FactorBatch, core: Core) -> None:
        """Update [A; M] <- [t_1; t_3] A + [t_2; t_4] M."""
        rank = batch.point.shape[-2]
        both = core["of_point"] @ batch.point
        both.baddbmm_(core["of_momentum"], batch.state["momentum_down"])
        batch.point = both[..., :rank, :]
        batch.state["momentum_down"] = both[..., rank:, :]


class _Direction(NamedTuple):
    """Coefficients of the direction D, ``(K, r, r)`` each.

    With X = (I - B B^T) M_B, Xi is eta X ``turn`` and D_R^T is ``inside`` A + ``along``
    M_A. ``inverse`` is (A A^T + delta^2 I)^-1 = F^T F.
    """

    inverse: Tensor
    turn: Tensor
    inside: Tensor
    along: Tensor


def solve_product(up: Core, down: Core, lr: Tensor, decay: Tensor) -> tuple[Core, Core]:
    """Compute the coefficients of both updates from the r x r matrices of K pairs.

    Args:
        up: result of :meth:`ProductUp.look`, each ``(K, r, r)``.
        down: result of :meth:`ProductDown.look`.
        lr: spectral norm eta of the update of the product, ``(K, 1, 1)``.
        decay: weight decay lambda of the product, ``(K, 1, 1)``.

    Returns:
            Coefficients for :meth:`ProductUp.move` and :meth:`ProductDown.move`.
    """
    identity = torch.eye(up["own"].shape[-1], dtype=lr.dtype, device=lr.device)
    # B^T B = I + E only up to rounding, and where A is smaller than a step, E would be
    # amplified from step to step. So all that follows is for the orthonormal B P and
    # K A, whose product is the same. Neither is formed.
    polar = 1.5 * identity - 0.5 * up["own"]
    keep = polar @ up["own"]
    along, cross = polar @ up["along"], keep @ down["cross"]
    size = keep @ down["size"] @ keep.mT
    down = {"size": size, "cross": cross, "force": down["force"]}
    # X^T X of X = (I - B B^T) M. In float32, the difference loses what is below 3e-4 of
    # M: parts of X_L that are that small relative to X_R are not resolved by msign.
    outside = up["whole"] - along.mT @ along
    found = _direction(outside, up["whole"], down, lr)
    turn = _resolved(lr * found.turn, up["whole"])
    # S = Xi^T Xi with Xi = X turn. From here on, ``turn`` contains eta.
    square = turn.mT @ outside @ turn
    root = inverse_sqrt_of_retraction(square + identity, STEEPEST)
    # B_new = B u1 + X u2 and A_new = t1 A + t2 M; of the momentum, B v1 + X v2 and
    # t3 A + root M.
    u1, u2 = root, -turn @ root
    # A_new = B_new^T (W - eta D - eta lambda W), term by term: B_new^T W = root A; the
    # part of eta D outside of B is X turn A, and B_new^T X turn = -root S; the part
    # inside is eta B D_R^T with D_R^T = inside A + along M_A.
    t1 = root @ ((1 - lr * decay) * identity + square - lr * found.inside)
    t2 = -lr * (root @ found.along)
    # The transported momentum is xi = X F^T F A + B M_A with the frame F, in the form
    # of gradients at the new point: xi A_new^T without its part in B_new, and B_new^T
    # xi.
    v2 = found.inverse @ (size @ t1.mT + cross @ t2.mT)
    v1 = cross.mT @ t1.mT + down["force"] @ t2.mT
    # So far, X v2 + B v1 is xi A_new^T, and ``inside`` is B_new^T times it.
    seen = u2.mT @ outside
    inside = seen @ v2 + root @ v1
    v1, v2 = v1 - u1 @ inside, v2 - u2 @ inside
    t3 = seen @ found.inverse
    # X is never formed: X u = M u - B (B^T M) u.
    of_momentum = torch.cat([u2, v2], -1)
    of_point = polar @ (torch.cat([u1, v1], -1) - along @ of_momentum)
    return (
        {"of_point": of_point, "of_momentum": of_momentum},
        {
            "of_point": torch.cat([t1, t3], -2) @ keep,
            "of_momentum": torch.cat([t2, root], -2),
        },
    )


def _direction(outside: Tensor, whole: Tensor, down: Core, lr: Tensor) -> _Direction:
    """Compute P_T(msign(xi)) from Gram matrices.

    With X = U C^T, where U has orthonormal columns, xi = [U, B] Y with
    Y = [C^T F^T R^T; X_R^T], so msign(xi) = [U, B] (Y Y^T)^(-1/2) Y.
    """
    size = down["size"]
    share, tiny = _UNRESOLVED[size.dtype], torch.finfo(size.dtype).tiny
    # delta^2 of the docstring, and above it the resolution of A A^T in float32: a
    # direction below either one counts as having no length.
    shift = ((lr / STEEPEST) ** 2 + share * trace(size)).clamp_min(_LEAST_SHIFT)
    # R^T = F A and X_L = X F^T: F stands for H^-1 in another basis of the rows.
    frame = inverse_cholesky(size, shift)
    inverse = frame.mT @ frame
    rows, momentum, rest = _triangle(down)
    # [A; M_A] = [L_11, 0; L_21, L_22] Q with orthonormal rows of Q, on which msign does
    # not depend. In this basis, R^T = [F L_11, 0] Q = [seen, 0] Q.
    seen = frame @ rows
    # Gradients are tiny compared to unit frames, and only their ratio matters. If both
    # are 0 there is no direction: scale 0 makes everything that follows 0.
    square = torch.maximum(_inner(inverse, outside), trace(down["force"]))
    scale = torch.where(square > tiny, square.clamp_min(tiny).rsqrt(), 0.0)
    momentum, rest = momentum * scale, rest * scale
    overlap, cross = seen @ seen.mT, seen @ momentum.mT
    basis = _basis(outside, whole)
    # X_L = U K with K = C^T F^T.
    factor = (basis.factor.mT @ frame.mT) * scale
    top = factor @ overlap
    # Y in the basis Q: K R^T above, M_A = X_R^T below.
    upper = torch.cat([factor @ seen, torch.zeros_like(rest)], -1)
    both = torch.cat([upper, torch.cat([momentum, rest], -1)], -2)
    core = joint_polar_core(both @ both.mT)
    rank = size.shape[-1]
    above, below = core.split(rank, dim=-2)
    # D_L = (I - B B^T) msign(xi) R = U times the upper half of (Y Y^T)^(-1/2) Y R,
    # where Y R = [top; cross^T]. D_R^T = B^T msign(xi) is the lower half times Y.
    found = above[..., :rank] @ top + above[..., rank:] @ cross.mT
    return _Direction(
        inverse,
        basis.of_outside(found) @ frame,
        below[..., :rank] @ factor @ frame,
        below[..., rank:] * scale,
    )


class _Basis(NamedTuple):
    """Orthonormal columns U = X C^-T of X, with X^T X + nu I = C C^T.

    ``factor`` is C, ``inverse`` its inverse, ``lost`` is nu, ``(K, 1, 1)``.
    """

    factor: Tensor
    inverse: Tensor
    lost: Tensor

    def of_outside(self, found: Tensor) -> Tensor:
        """Return the coefficients T with X T = U U^T U N for N = ``found``.

        The columns of U have length 1 where X is resolved. A direction of X that
        consists of rounding errors has a length of almost 0 in U, and coefficients of
        1 / sqrt(nu) that multiply these errors. U^T U = I - nu C^-1 C^-T removes them.
        """
        root = self.inverse.mT @ found
        return self.inverse.mT @ (found - self.lost * (self.inverse @ root))


def _basis(outside: Tensor, whole: Tensor) -> _Basis:
    """Orthonormalize X from X^T X and M^T M.

    The entries of X^T X have errors of some eps tr(M^T M), whatever the size of A is.
    So directions are resolved or not in X, and not in X_L = X F^T, where F amplifies
    the errors if A has small singular values.
    """
    info = torch.finfo(outside.dtype)
    size = trace(whole)
    # Divided by the size, since squares of tiny gradients times eps underflow.
    safe = size.clamp_min(info.tiny)
    lost = torch.full_like(size, _NOISE[outside.dtype] * info.eps)
    factor = damped_cholesky(outside / safe, lost)
    identity = torch.eye(outside.shape[-1], dtype=outside.dtype, device=outside.device)
    inverse = torch.linalg.solve_triangular(
        factor, identity.expand_as(factor), upper=False
    )
    root = safe.sqrt()
    return _Basis(factor * root, inverse / root, lost * safe)


def _inner(first: Tensor, second: Tensor) -> Tensor:
    """Compute tr(S T) of symmetric matrices ``(K, r, r)``, as ``(K, 1, 1)``."""
    return (first * second).sum((-2, -1), keepdim=True)


def _triangle(down: Core) -> tuple[Tensor, Tensor, Tensor]:
    """Factor the Gram matrix of [A; M] as L L^T; return L_11, L_21 and L_22.

    If A has small singular values, multiplying the Gram matrices of A and M by inverse
    square roots would amplify their rounding errors to some percent. The Gram matrix of
    Y would have negative eigenvalues, and its msign could have any length. With a
    triangular factor, the Gram matrix of Y is positive semidefinite.
    """
    size, force = down["size"], down["force"]
    tiny = torch.finfo(size.dtype).tiny
    # Both are scaled to trace 1, so that one shift covers the rounding of both.
    of_size, of_force = (trace(part).clamp_min(tiny).sqrt() for part in (size, force))
    cross = down["cross"] / (of_size * of_force).clamp_min(tiny)
    upper = torch.cat([size / of_size.square(), cross], -1)
    lower = torch.cat([cross.mT, force / of_force.square()], -1)
    shift = torch.full_like(of_size, 4 * torch.finfo(size.dtype).eps)
    factor = damped_cholesky(torch.cat([upper, lower], -2), shift)
    rank = size.shape[-1]
    top, bottom = factor.split(rank, dim=-2)
    return (
        top[..., :rank] * of_size,
        bottom[..., :rank] * of_force,
        bottom[..., rank:] * of_force,
    )


def _resolved(turn: Tensor, whole: Tensor) -> Tensor:
    """Scale down an update of B whose Gram matrix would consist of rounding errors.

    The entries of X^T X have errors of eps tr(M^T M), or of the smallest normal number
    if squares underflow. Those of the Gram matrix of the update are at most
    ||turn||_F^2 times as large. Directions that consist of rounding errors have been
    removed from the update before, so this only has an effect if B rotates by a large
    angle in many directions that are hardly resolved.
    """
    info, most = torch.finfo(turn.dtype), _CORRECTABLE[turn.dtype]
    # A turn of tiny gradients is so large that its square, and at tiny rates itself,
    # is infinite.
    turn = turn.nan_to_num(0.0, 0.0, 0.0)
    accuracy = (info.eps * trace(whole) + info.tiny).sqrt()
    error = (turn * accuracy).square().sum((-2, -1), keepdim=True)
    return turn * (most / error.clamp_min(most)).sqrt()
