r"""Riemannion: Muon on the manifold of rank-r matrices.

:math:`X = B A = L Y^T` is stored with orthonormal columns in B = L and a well
conditioned C in :math:`A = Y^T = T C R^T`, where T holds the lengths of A's rows, C is
the Cholesky factor of the Gram matrix of the normalized rows and R is orthonormal. So
:math:`G R = G_B T^{-1} C^{-T}` is accurate whatever the condition of A. With
ProjectLR the tangent projection in factors:

.. math::
    \dot X_L &= (I - L L^T)\,G R, \qquad \dot X_R = G^T L \\
    (\dot X_L, \dot X_R) &\leftarrow (\dot X_L, \dot X_R)
        + \beta\,\mathrm{ProjectLR}(\text{stored momentum}) \\
    (D_L, D_R) &= \mathrm{ProjectLR}(\mathrm{msign}(\dot X_L R^T + L \dot X_R^T)) \\
    U \Sigma V^T &\approx L\,(Y - \eta\,(D_R + \gamma Y))^T - \eta\,D_L R^T
        \quad\text{(rank r)} \\
    B &\leftarrow U Q, \qquad A \leftarrow Q^T \Sigma V^T

The paper prints the retraction without the current point Y, which would move to a point
at distance eta from 0 instead of from X; its own SGD variant includes Y. Its equation
10 keeps the momentum before msign, its algorithm 4 stores it after; ``momentum_form``
selects between them. Directions whose momentum is rounding of 0 stay unchanged instead
of rotating at random. Q is the orthogonal matrix that brings B closest to the old B, as
long as C stays well conditioned: factors move no more than the product does, and can be
averaged.

References:
    "Riemannion", 2025, arXiv:2507.12142 v2, algorithms 1-4.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from ..geometry import (
    factored_msign,
    inverse_cholesky,
    orthogonality_error,
    polar_factor,
    project_factored,
    truncate_factored,
)
from .gauge import enter_svd_gauge, random_frame
from .groups import Source
from .pair_optimizer import PairOptimizer
from .rule import PairBatch, Rule, StateShape

__all__ = ["TINY_START", "Riemannion", "tiny_right_factor"]

TINY_START = 1e-7
"""Singular values of the initial product without LOI: far below a step."""

# Singular values are kept above this share of the largest, so that G_B T^-1 is finite.
_FLOOR = 1e-6
# And above this: no gradient that the engine lets pass overflows in G_B T^-1.
_SHORTEST = 1e-15
# Rows of A at unit length: least squared singular value. Errors of G_B are amplified by
# 1 / sqrt of it on their way to G R, at most; in bfloat16 they stay below 3e-3.
_UPRIGHT = 0.3
_STATES: dict[str, StateShape] = {
    "momentum_left": "up",
    "frame_left": "up",
    "momentum_right": "down",
    "frame_right": "down",
}


class RiemannionRule(Rule):
    """The update in the module's docstring, on stacked pairs."""

    factorizes = True

    orthonormal_up = True
    # Products of these are vectors in the space of X, independent of the factors.
    gauge_free = frozenset(_STATES)

    def choices(self, group: Mapping[str, Any]) -> dict[str, Any]:
        """The quantity stored as momentum."""
        return {"momentum_form": group["momentum_form"]}

    def numbers(self, group: Mapping[str, Any]) -> dict[str, float]:
        """Momentum and weight decay."""
        return {name: group[name] for name in ("momentum", "weight_decay")}

    def joint_numbers(self, choices: Mapping[str, Any]) -> tuple[str, ...]:
        """Numbers of the step of the product."""
        return ("lr", "momentum", "weight_decay")

    def states(self, choices: Mapping[str, Any]) -> dict[str, StateShape]:
        """The momentum as a tangent pair and the frames it was stored at."""
        return dict(_STATES)

    def rest_lr_ratio(self, group: Mapping[str, Any]) -> float:
        """AdamW's share of lr, which is a spectral norm here."""
        return group["rest_lr_ratio"]

    def prepare(self, batch: PairBatch) -> Tensor | None:
        """Rotate A where its rows are oblique; A = 0 gets a tiny start and waits."""
        ready = batch.down.flatten(1).any(1)
        oblique = _oblique(batch.down, 0.9 * _UPRIGHT)
        for index in torch.nonzero(oblique).flatten().tolist():
            if ready[index]:
                _enter_svd_gauge(batch, index)
            else:
                down = batch.down[index]
                down.copy_(tiny_right_factor(batch.names[index], *down.shape))
        return ready

    def update(self, batch: PairBatch) -> None:
        """Momentum, msign in the tangent space, retraction."""
        left = batch.up
        right, gradient = _right_frame(batch.down, batch.grad_up)
        x_left = gradient - left @ (left.mT @ gradient)
        x_right = batch.grad_down.mT
        old_left, old_right = _carried(batch, left, right)
        beta = batch.numbers["momentum"]
        x_left, x_right = x_left + beta * old_left, x_right + beta * old_right
        p, q = factored_msign(
            torch.cat([x_left, left], -1), torch.cat([right, x_right], -1)
        )
        d_left, d_right = project_factored(left, right, p, q)
        kept = (d_left, d_right)
        if batch.choices["momentum_form"] == "raw":
            kept = (x_left, x_right)
        names = ("momentum_left", "momentum_right", "frame_left", "frame_right")
        values = (kept[0], kept[1].mT, left, right.mT)
        batch.state |= dict(zip(names, values, strict=True))
        batch.up, batch.down = _retract(batch, right, d_left, d_right)


def _carried(batch: PairBatch, left: Tensor, right: Tensor) -> tuple[Tensor, Tensor]:
    """Transport the stored momentum: project it at the current point."""
    state = batch.state
    # The old vector X_L R^T + L X_R^T is [X_L, L] [R, X_R]^T, a product of 2r columns,
    # which is projected at the new frames without being formed.
    p = torch.cat([state["momentum_left"], state["frame_left"]], -1)
    q = torch.cat([state["frame_right"], state["momentum_right"]], -2)
    return project_factored(left, right, p, q.mT)


def _retract(
    batch: PairBatch, right: Tensor, d_left: Tensor, d_right: Tensor
) -> tuple[Tensor, Tensor]:
    """Rank-r SVD of X - eta (xi + gamma X), with the singular values floored.

    ``lr_up`` is the rate of the whole product, which has one step for both factors.
    """
    eta, rows = batch.lr_up, batch.down
    # X - eta xi = [-eta D_L, B] [R, A^T - eta D_R]^T: again 2r columns, so its SVD is
    # that of a 2r x 2r matrix.
    moved = rows.mT - eta * (d_right + batch.numbers["weight_decay"] * rows.mT)
    rank = rows.shape[-2]
    u, sigma, v = truncate_factored(
        torch.cat([-eta * d_left, batch.up], -1), torch.cat([right, moved], -1), rank
    )
    # A direction that falls to 0 could not recover: its gradient in B is scaled by
    # sigma, and the right frame would be computed from rounding errors.
    sigma = torch.maximum(sigma, (_FLOOR * sigma[..., :1]).clamp_min(_SHORTEST))
    turn = _follow(u.mT @ batch.up, sigma)
    return u @ turn, turn.mT @ (sigma.unsqueeze(-1) * v.mT)


def _right_frame(down: Tensor, grad_up: Tensor) -> tuple[Tensor, Tensor]:
    """R and G R from A and G_B, by the Cholesky factor of A's rows at unit length."""
    size, unit, gram = _unit_rows(down)
    eps = torch.finfo(gram.dtype).eps
    inverse = inverse_cholesky(gram, gram.new_full((1, 1), eps))
    return (inverse @ unit).mT, grad_up / size.mT @ inverse.mT


def _follow(overlap: Tensor, sigma: Tensor) -> Tensor:
    """Rotation Q of the new frame that brings it closest to the old one.

    An SVD sorts by size, has arbitrary signs and rotates close singular vectors within
    their span, so columns would jump and averages over steps would cancel.
    ``(U Q, Q^T Sigma V^T)`` with the polar factor of the overlap (orthogonal
    Procrustes) moves as little as the product does. It is used unless the rows of
    ``Q^T Sigma V^T`` become too oblique, or a column has left the old frame, where no
    direction is closest; then Q = I.

    Args:
        overlap: U^T B of the new and the old frame, ``(K, r, r)``.
        sigma: singular values, ``(K, r)``.

    Returns:
        Q, orthogonal, ``(K, r, r)``.
    """
    turn = polar_factor(overlap)
    # One Newton-Schulz step squares the error that the polynomials leave.
    turn = 1.5 * turn - 0.5 * turn @ (turn.mT @ turn)
    square = orthogonality_error(turn) < 64 * torch.finfo(turn.dtype).eps
    near = square & ~_oblique(turn.mT * sigma.unsqueeze(-2), _UPRIGHT)
    identity = torch.eye(turn.shape[-1], dtype=turn.dtype, device=turn.device)
    return torch.where(near[..., None, None], turn, identity)


def _unit_rows(down: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Lengths of A's rows ``(K, r, 1)``, the rows at unit length, their Gram matrix."""
    size = torch.linalg.vector_norm(down, dim=-1, keepdim=True)
    size = size.clamp_min(_SHORTEST)
    unit = down / size
    return size, unit, unit @ unit.mT


def _oblique(down: Tensor, least: float) -> Tensor:
    """Mask of unit rows with a squared singular value below ``least``, ``(K,)``.

    Cholesky's algorithm decides it on the device; a zero row counts as oblique.
    """
    gram = _unit_rows(down)[2]
    identity = torch.eye(gram.shape[-1], dtype=gram.dtype, device=gram.device)
    return torch.linalg.cholesky_ex(gram - least * identity).info != 0


def _enter_svd_gauge(batch: PairBatch, index: int) -> None:
    """The SVD gauge with floored singular values."""
    sigma, right = enter_svd_gauge(batch, index)
    floored = sigma.clamp_min(max(_FLOOR * float(sigma[0]), _SHORTEST))
    batch.down[index] = (floored.unsqueeze(-1) * right).to(batch.down.dtype)


def tiny_right_factor(name: str, rank: int, width: int, seed: int = 0) -> Tensor:
    """A of a start without LOI: orthogonal rows of TINY_START, seeded by name."""
    return TINY_START * random_frame(f"{name}.Y", width, rank, seed).mT


class Riemannion(PairOptimizer):
    """Train B A with orthogonalized momentum in the tangent space.

    The adapter must start away from zero: call
    :func:`~stiefel_lora.optim.init.init_riemannion_` or
    :func:`~stiefel_lora.optim.loi.init_loi_` before training. Otherwise the first step
    only writes a tiny seeded start. LoRA alpha must equal the rank.

    Args:
        params: model, named parameters, parameters or groups of them.
        lr: spectral norm of the product's step.
        momentum: beta in [0, 1).
        momentum_form: ``"raw"`` stores the momentum before msign (equation 10 of the
            paper), ``"orthogonal"`` after it (its algorithm 4).
        weight_decay: decay of the product inside the retraction (times lr).
        rest_lr_ratio: AdamW rate of parameters outside pairs, as a multiple of lr.
        beta1: AdamW, for parameters outside pairs.
        beta2: likewise.
        eps: likewise.

    Raises:
        OptionError: an option out of bounds; at the first step, B not in float32.
        PairingError: parameters whose roles are ambiguous.
    """

    method = "riemannion"
    rule = RiemannionRule()

    def __init__(
        self,
        params: Source,
        lr: float | Tensor = 1e-2,
        *,
        momentum: float = 0.9,
        momentum_form: str = "raw",
        rest_lr_ratio: float = 0.05,
        weight_decay: float = 0.0,
        beta1: float = 0.9,
        beta2: float = 0.999,
        eps: float = 1e-8,
    ) -> None:
        options = {
            "momentum": momentum,
            "momentum_form": momentum_form,
            "rest_lr_ratio": rest_lr_ratio,
            "weight_decay": weight_decay,
            "beta1": beta1,
            "beta2": beta2,
            "eps": eps,
        }
        super().__init__(params, lr, options)
