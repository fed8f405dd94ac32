r"""Riemannion: Muon on the manifold of rank-r matrices.

At :math:`X = B A` with :math:`B^T B = I` and the orthonormal rows :math:`R^T = F A` a
tangent vector is :math:`\xi = X_L R^T + B X_R^T` with :math:`B^T X_L = 0`. The
gradients of the factors give the Riemannian gradient exactly, :math:`X_L = (I - B B^T)
G_B F^T` and :math:`X_R = G_A^T`. The learning rate :math:`\eta` is the spectral norm of
the update of the product. One step:

.. math::
    \xi &\leftarrow \mathrm{grad} + \beta\,P_T(\text{stored momentum}) \\
    D &= P_T(\mathrm{msign}(\xi)) \\
    U \Sigma V^T &\approx X - \eta\,(D + \gamma X) \quad\text{(rank r)} \\
    B &\leftarrow U Q, \qquad A \leftarrow Q^T \Sigma V^T

In the paper, the formula of the retraction lacks the current point X, which is present
in the formula of its SGD variant. Equation 10 of the paper stores the momentum before
msign, algorithm 4 after it; ``momentum_form`` selects between them. Directions whose
momentum is a rounding error are not updated. Q is the orthogonal matrix that brings B
closest to the old B, as long as the rows of A stay well conditioned. Then the factors
change no more than the product does, so that they can be averaged (EMA).

**Cost.** Both passes over the tall matrices are products with r x r matrices. Let
:math:`\hat U` and :math:`\hat V` be orthonormal bases of the parts of X_L and X_R
outside of B and R. The momentum, D and the updated product are :math:`[B, \hat
U]\,C\,[R, \hat V]^T`, so msign and the truncated SVD are computed on 2r x 2r matrices
C, stacked over all layers. Gram matrices and eigenvectors are computed in float64,
because in float32, directions below 3e-4 of the largest would be lost.

**Momentum.** The state is :math:`M_B = \xi A^T` without its part in B, and :math:`M_A =
B^T \xi`. It transforms like the gradients of the factors (see
:mod:`~stiefel_lora.optim.stiefel_product`). The projection at the new point is a linear
combination at the end of the step.

References:
    "Riemannion", 2025, arXiv:2507.12142 v2, algorithms 1-4.
"""

from __future__ import annotations

import functools
from collections.abc import Mapping
from types import MappingProxyType
from typing import Any, NamedTuple

import torch
from torch import Tensor

from ..geometry import (
    cross_gram,
    gram_of,
    inverse_cholesky,
    joint_polar_core,
    orthogonality_error,
    polar_factor,
    qr_gauge,
    trace,
)
from ._moments import heavy_ball
from .gauge import enter_svd_gauge, random_frame
from .groups import Source
from .pair_optimizer import PairOptimizer
from .rule import (
    Core,
    FactorBatch,
    FactorRule,
    HeldFactor,
    PairBatch,
    Role,
    Rule,
    Solver,
    StateShape,
)
from .stiefel_product import ProductDown, ProductUp

__all__ = ["TINY_START", "Riemannion", "tiny_right_factor"]

TINY_START = 1e-7
"""Singular values of the initial product without LOI."""

# Singular values are kept above this share of the largest, so that B's gradients can be
# divided by them.
_FLOOR = 1e-6
# And above this: no gradient that the engine lets pass overflows when divided by it.
_SHORTEST = 1e-15
# Rows of A at unit length: least squared singular value. Errors of G_B are amplified by
# 1 / sqrt of it on their way to G R, at most; in bfloat16 they stay below 3e-3.
_UPRIGHT = 0.3
# Directions below this many rounding errors of the momentum, 5e-4 of it in float32, are
# not followed: msign would shorten them, and tall combinations that yield them are
# orthonormal to 1 / _FOLLOWED only. The square of that, which one Newton-Schulz step
# leaves, must stay far below the same share of the momentum.
_FOLLOWED = 4096.0
# Squared length below which a momentum is 0: coefficients of tall combinations are at
# most 1 over the root of it.
_LEAST = 1e-60

_STATES: dict[str, StateShape] = {"momentum_up": "up", "momentum_down": "down"}


class RiemannionUp(ProductUp):
    """Update rule of B."""

    def look(self, batch: FactorBatch) -> Core:
        """Add the gradient and project it. Return the r x r matrices of the result."""
        momentum = heavy_ball(batch, "momentum_up")
        along = cross_gram(batch.point, momentum)
        outside = torch.baddbmm(momentum, batch.point, along, alpha=-1)
        batch.state["momentum_up"] = outside
        outside = outside.double()
        return {"along": along.double(), "outside": gram_of(outside)}


class RiemannionDown(ProductDown):
    """Update rule of A."""

    def look(self, batch: FactorBatch) -> Core:
        """Add the gradient; return A A^T, A M^T and M M^T."""
        momentum = heavy_ball(batch, "momentum_down")
        point, momentum = batch.point.double(), momentum.double()
        return {
            "size": point @ point.mT,
            "cross": point @ momentum.mT,
            "force": momentum @ momentum.mT,
        }


class RiemannionRule(Rule):
    """Update rule in the docstring of this module, in two passes."""

    factorizes = True
    orthonormal_up = True
    scale_powers = MappingProxyType({"momentum_up": 1})

    _rules: Mapping[Role, FactorRule] = {
        "up": RiemannionUp(),
        "down": RiemannionDown(),
    }

    def choices(self, group: Mapping[str, Any]) -> dict[str, Any]:
        """Return the option ``momentum_form``."""
        return {"momentum_form": group["momentum_form"]}

    def numbers(self, group: Mapping[str, Any]) -> dict[str, float]:
        """Return momentum and weight decay."""
        return {name: group[name] for name in ("momentum", "weight_decay")}

    def joint_numbers(self, choices: Mapping[str, Any]) -> tuple[str, ...]:
        """Return the names of the numeric options of the solver."""
        return ("lr", "momentum", "weight_decay")

    def states(self, choices: Mapping[str, Any]) -> dict[str, StateShape]:
        """Return the state shapes: the momentum, in the shapes of the gradients."""
        return dict(_STATES)

    def rest_lr_ratio(self, group: Mapping[str, Any]) -> float:
        """Return the AdamW learning rate of other parameters as a multiple of lr."""
        return group["rest_lr_ratio"]

    def adopt(self, up: HeldFactor, down: HeldFactor) -> None:
        """Convert a momentum that was saved by version 0.1.

        It was X_L R^T + L X_R^T, with L, R^T and X_R^T in the states removed here.
        """
        if "frame_left" not in up.state or "frame_right" not in down.state:
            return
        left, right = up.state.pop("momentum_left"), down.state.pop("momentum_right")
        frames = up.state.pop("frame_left"), down.state.pop("frame_right")
        frame_left, frame_right = (frame.flatten(1).double() for frame in frames)
        x_left, x_right = left.flatten(1).double(), right.flatten(1).double()
        b, a = up.value.double(), down.value.double()
        m_up = x_left @ (frame_right @ a.mT) + frame_left @ (x_right @ a.mT)
        m_down = (b.mT @ x_left) @ frame_right + (b.mT @ frame_left) @ x_right
        up.state["momentum_up"] = m_up.to(left.dtype).view(left.shape)
        down.state["momentum_down"] = m_down.to(right.dtype).view(right.shape)

    def prepare(self, batch: PairBatch) -> Tensor | None:
        """Apply the SVD gauge if the rows of A are ill conditioned.

        If A = 0, it is replaced by a tiny initial value and the pair skips the step.
        """
        ready = batch.down.flatten(1).any(1)
        oblique = _oblique(batch.down, 0.9 * _UPRIGHT)
        for index in torch.nonzero(oblique).flatten().tolist():
            if ready[index]:
                _enter_svd_gauge(batch, index)
            else:
                down = batch.down[index]
                down.copy_(tiny_right_factor(batch.names[index], *down.shape))
        return ready

    def factor_rules(self, choices: Mapping[str, Any]) -> Mapping[Role, FactorRule]:
        """Return the rules of B and A."""
        return self._rules

    def solver(self, choices: Mapping[str, Any]) -> Solver | None:
        """Return the solver. The update of the product needs both factors."""
        return functools.partial(_solve, raw=choices["momentum_form"] == "raw")


def _solve(
    up: Core, down: Core, lr: Tensor, numbers: Mapping[str, Tensor], *, raw: bool
) -> tuple[Core, Core]:
    """Compute the coefficients of both updates from the r x r matrices of K pairs."""
    eta, dtype = lr.double(), lr.dtype
    seen = _coordinates(up, down, torch.finfo(dtype).eps)
    rank = seen.inside.shape[-1]
    direction = _direction(seen.momentum, dtype)
    moved = -eta * direction
    moved[..., :rank, :rank] += (1 - eta * numbers["weight_decay"]) * seen.inside
    left, rows = _truncated(moved, dtype)
    # The stored vector at the new point: xi A_new^T without its part in B_new, and
    # B_new^T xi.
    kept = seen.momentum if raw else direction
    of_left = kept @ rows.mT
    of_left = of_left - left @ (left.mT @ of_left)
    both = torch.cat([left, of_left], -1)
    found_up = {
        "of_point": both[..., :rank, :],
        "of_momentum": seen.over_up.mT @ both[..., rank:, :],
    }
    both = torch.cat([rows, left.mT @ kept], -2)
    # R^T = F A and V^T = J (M - c R^T).
    of_momentum = both[..., rank:] @ seen.over_down
    of_point = (both[..., :rank] - of_momentum @ seen.cross) @ seen.frame
    found_down = {"of_point": of_point, "of_momentum": of_momentum}
    return (
        {name: matrix.to(dtype) for name, matrix in found_up.items()},
        {name: matrix.to(dtype) for name, matrix in found_down.items()},
    )


class _Coordinates(NamedTuple):
    """Momentum in orthonormal bases, float64.

    xi = [B, U] momentum [R, V]^T with R^T = ``frame`` A, U = X ``over_up``^T and
    V^T = ``over_down`` (M_A - ``cross`` R^T). A = ``inside`` R^T. ``momentum`` is
    ``(K, 2r, 2r)``, the others ``(K, r, r)``.
    """

    frame: Tensor
    inside: Tensor
    cross: Tensor
    over_up: Tensor
    over_down: Tensor
    momentum: Tensor


def _coordinates(up: Core, down: Core, eps: float) -> _Coordinates:
    size, cross = down["size"], down["cross"]
    frame = _frame(size)
    inside, cross = size @ frame.mT, cross.mT @ frame.mT
    rest = down["force"] - cross @ cross.mT
    left = frame @ up["outside"] @ frame.mT
    along = up["along"] @ frame.mT
    whole = trace(left) + along.square().sum((-2, -1), keepdim=True)
    noise = max((_FOLLOWED * eps) ** 2, 1e-14)
    # U becomes part of B, so it is orthonormal: what is rounding of 0 has a U of 0.
    values, vectors = torch.linalg.eigh(left)
    values = values.unsqueeze(-2)
    there = values > (noise * whole).clamp_min(_LEAST)
    over_left = torch.where(there, values, torch.inf).rsqrt() * vectors
    of_left = torch.where(there, values, 0.0).sqrt() * vectors
    # V becomes part of A, which is free; there it is short, and what it carries, too.
    shift = (noise * trace(down["force"])).clamp_min(_LEAST)
    over_rest = inverse_cholesky(rest, shift)
    top = torch.cat([cross, rest @ over_rest.mT], -1)
    bottom = torch.cat([of_left.mT, torch.zeros_like(cross)], -1)
    return _Coordinates(
        frame,
        inside,
        cross,
        over_left.mT @ frame,
        over_rest,
        torch.cat([top, bottom], -2),
    )


def _direction(momentum: Tensor, dtype: torch.dtype) -> Tensor:
    """Compute P_T(msign(xi)) in the coordinates of xi."""
    # Gradients are tiny, and only their ratio matters. 0 has no direction.
    size = momentum.abs().amax((-2, -1), keepdim=True)
    unit = (momentum / torch.where(size > 0, size, 1.0)).to(dtype)
    found = joint_polar_core(unit @ unit.mT) @ unit
    # The Newton-Schulz quintic: from 5e-3 to rounding.
    gram = found.mT @ found
    core = torch.baddbmm(gram, gram, gram, beta=-1.25, alpha=0.375)
    found = torch.baddbmm(found, found, core, beta=1.875).double()
    rank = found.shape[-1] // 2
    found[..., rank:, rank:] = 0
    return found


def _truncated(moved: Tensor, dtype: torch.dtype) -> tuple[Tensor, Tensor]:
    """Compute the best rank-r approximation in coordinates of the old bases.

    Args:
        moved: updated product, ``(K, 2r, 2r)``.
        dtype: dtype of the factors.

    Returns:
        B ``(K, 2r, r)`` with orthonormal columns, and A ``(K, r, 2r)``.
    """
    rank = moved.shape[-1] // 2
    size = moved.abs().amax((-2, -1), keepdim=True)
    unit = moved / torch.where(size > 0, size, 1.0)
    # Where nothing else decides, B and R stay: directions that are not followed have
    # no tall vectors.
    start = torch.eye(2 * rank, rank, dtype=moved.dtype, device=moved.device)
    gram = unit @ unit.mT + 1e-15 * (start @ start.mT)
    left = torch.linalg.eigh(gram)[1][..., -rank:].flip(-1)
    # Columns of W^T U are orthogonal, longest first, so that R is diagonal to rounding.
    right, lengths = qr_gauge(unit.mT @ left + 1e-15 * start)
    sigma = size.squeeze(-1) * lengths.diagonal(dim1=-2, dim2=-1)
    # A direction that falls to 0 could not recover: its gradient in B is scaled by
    # sigma, and the right frame would be computed from rounding errors.
    largest = sigma.amax(-1, keepdim=True)
    sigma = torch.maximum(sigma, (_FLOOR * largest).clamp_min(_SHORTEST))
    turn = _follow(left[..., :rank, :].mT.to(dtype), sigma.to(dtype)).double()
    turn = turn - 0.5 * turn @ (turn.mT @ turn - start[:rank])
    return left @ turn, turn.mT @ (sigma.unsqueeze(-1) * right.mT)


def _frame(gram: Tensor) -> Tensor:
    """Compute F with F A A^T F^T = I from a Cholesky factorization."""
    size = gram.diagonal(dim1=-2, dim2=-1).sqrt().clamp_min(_SHORTEST)
    unit = gram / size.unsqueeze(-1) / size.unsqueeze(-2)
    eps = torch.finfo(gram.dtype).eps
    return inverse_cholesky(unit, gram.new_full((1, 1), eps)) / size.unsqueeze(-2)


def _follow(overlap: Tensor, sigma: Tensor) -> Tensor:
    """Compute the rotation Q that brings the new basis closest to the old one.

    The columns of an SVD are sorted by size and have arbitrary signs, and close
    singular values have arbitrary singular vectors. Without Q, columns could change
    abruptly between steps and averages of the factors (EMA) would be invalid. ``(U Q,
    Q^T Sigma V^T)`` with the polar factor of the overlap (orthogonal Procrustes)
    changes as little as the product does. It is used unless the rows of ``Q^T Sigma
    V^T`` become ill conditioned, or a column is orthogonal to the old basis. In these
    cases, Q = I.

    Args:
        overlap: U^T B of the new basis U and the old B, ``(K, r, r)``.
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


def _oblique(down: Tensor, least: float) -> Tensor:
    """Return a mask ``(K,)`` of matrices whose rows are ill conditioned.

    With rows scaled to length 1, a squared singular value is below ``least``, or a row
    is 0. Computed by Cholesky on the device, without synchronizing.
    """
    size = torch.linalg.vector_norm(down, dim=-1, keepdim=True)
    unit = down / size.clamp_min(_SHORTEST)
    gram = unit @ unit.mT
    identity = torch.eye(gram.shape[-1], dtype=gram.dtype, device=gram.device)
    return torch.linalg.cholesky_ex(gram - least * identity).info != 0


def _enter_svd_gauge(batch: PairBatch, index: int) -> None:
    """Apply the SVD gauge to a pair, with a lower bound on the singular values."""
    sigma, right = enter_svd_gauge(batch, index, _STATES)
    floored = sigma.clamp_min(max(_FLOOR * float(sigma[0]), _SHORTEST))
    batch.down[index] = (floored.unsqueeze(-1) * right).to(batch.down.dtype)


def tiny_right_factor(name: str, rank: int, width: int, seed: int = 0) -> Tensor:
    """Return the initial A without LOI: orthogonal rows of length TINY_START."""
    return TINY_START * random_frame(f"{name}.Y", width, rank, seed).mT


class Riemannion(PairOptimizer):
    """Riemannion optimizer: orthogonalized momentum in the tangent space of B A.

    The product B A must not be zero at the start: call
    :func:`~stiefel_lora.optim.init.init_riemannion_` or
    :func:`~stiefel_lora.optim.loi.init_loi_` before training. Otherwise, the first step
    only sets A to a tiny initial value. LoRA alpha must equal the rank.

    Args:
        params: model, named parameters, or iterable of parameters or parameter groups
            to optimize.
        lr: spectral norm of the update of the product B A.
        momentum: momentum factor beta, in [0, 1).
        momentum_form: ``"raw"`` stores the momentum before msign (equation 10 of the
            paper), ``"orthogonal"`` after it (its algorithm 4).
        weight_decay: weight decay of the product B A (times lr).
        rest_lr_ratio: AdamW learning rate of parameters outside pairs, as a multiple of
            lr.
        beta1: beta1 of AdamW for parameters outside pairs.
        beta2: beta2 of AdamW for parameters outside pairs.
        eps: epsilon of AdamW for parameters outside pairs.

    Raises:
        OptionError: If an option is out of bounds, or B is not in float32 at the first
            step.
        PairingError: If parameters cannot be assigned to A and B unambiguously.
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
