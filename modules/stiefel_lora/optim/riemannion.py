r"""Riemannion: Muon on the manifold of rank-r matrices.

At :math:`X = B A` with :math:`B^T B = I` and the orthonormal rows :math:`R^T = F A` a
tangent vector is :math:`\xi = X_L R^T + B X_R^T` with :math:`B^T X_L = 0`. The
gradients of the factors give the Riemannian gradient exactly,
:math:`X_L = (I - B B^T) G_B F^T` and :math:`X_R = G_A^T`. One step, with the learning
rate :math:`\eta` as the spectral norm of the product's step:

.. math::
    \xi &\leftarrow \mathrm{grad} + \beta\,P_T(\text{stored momentum}) \\
    D &= P_T(\mathrm{msign}(\xi)) \\
    U \Sigma V^T &\approx X - \eta\,(D + \gamma X) \quad\text{(rank r)} \\
    B &\leftarrow U Q, \qquad A \leftarrow Q^T \Sigma V^T

The paper prints the retraction without the current point, which would move to a point
at distance eta from 0 instead of from X; its own SGD variant includes it. Its equation
10 keeps the momentum before msign, its algorithm 4 stores it after; ``momentum_form``
selects between them. Directions whose momentum is rounding of 0 stay unchanged instead
of rotating at random. Q is the orthogonal matrix that brings B closest to the old B, as
long as the rows of A stay well conditioned: factors move no more than the product does,
and can be averaged.

**Cost.** Both passes over the tall matrices are products with r x r matrices. With the
orthonormal :math:`\hat U` and :math:`\hat V` of what X_L and X_R have outside of B and
R, the momentum, D and the moved product are :math:`[B, \hat U]\,C\,[R, \hat V]^T`:
msign and the truncated SVD are those of the 2r x 2r matrices C, for all layers in one
stack. Gram matrices and eigenvectors are computed in float64, since float32 ones would
lose directions below 3e-4 of the largest.

**Momentum as a gradient.** The state is :math:`M_B = \xi A^T` without its part in B,
and :math:`M_A = B^T \xi`, in the form of the factors' gradients (see
:mod:`~stiefel_lora.optim.stiefel_product`). The projection at the new point is a linear
combination at the end of the step.

References:
    "Riemannion", 2025, arXiv:2507.12142 v2, algorithms 1-4.
"""

from __future__ import annotations

import functools
from collections.abc import Mapping
from typing import Any, NamedTuple

import torch
from torch import Tensor

from ..geometry import (
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
"""Singular values of the initial product without LOI: far below a step."""

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
    """The passes of B."""

    def look(self, batch: FactorBatch) -> Core:
        """Add the gradient; keep what is outside of B and return its Gram matrix."""
        momentum = heavy_ball(batch, "momentum_up")
        along = batch.point.mT @ momentum
        outside = torch.baddbmm(momentum, batch.point, along, alpha=-1)
        batch.state["momentum_up"] = outside
        outside = outside.double()
        return {"along": along.double(), "outside": outside.mT @ outside}


class RiemannionDown(ProductDown):
    """The passes of A."""

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
    """The update in the module's docstring, in two passes."""

    factorizes = True
    orthonormal_up = True

    _rules: Mapping[Role, FactorRule] = {
        "up": RiemannionUp(),
        "down": RiemannionDown(),
    }

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
        """The momentum as gradients of the factors."""
        return dict(_STATES)

    def rest_lr_ratio(self, group: Mapping[str, Any]) -> float:
        """AdamW's share of lr, which is a spectral norm here."""
        return group["rest_lr_ratio"]

    def adopt(self, up: HeldFactor, down: HeldFactor) -> None:
        """Convert a momentum of version 0.1, stored with the frames of its point.

        It was X_L R^T + L X_R^T with L, R^T and X_R^T in the states popped here.
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
        """Rotate A where its rows are oblique. A = 0 gets a tiny start and waits."""
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
        """The passes of B and A."""
        return self._rules

    def solver(self, choices: Mapping[str, Any]) -> Solver | None:
        """One step of the product."""
        return functools.partial(_solve, raw=choices["momentum_form"] == "raw")


def _solve(
    up: Core, down: Core, lr: Tensor, numbers: Mapping[str, Tensor], *, raw: bool
) -> tuple[Core, Core]:
    """Turn the matrices of K pairs of one rank into coefficients of both moves."""
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
    """The momentum in orthonormal frames, float64.

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
    """P_T(msign(xi)) in the coordinates of xi."""
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
    """B and A of the best rank-r approximation, in coordinates of the old frames.

    Args:
        moved: the moved product, ``(K, 2r, 2r)``.
        dtype: of the factors.

    Returns:
        ``(K, 2r, r)`` with orthonormal columns and ``(K, r, 2r)``.
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
    """F with F A A^T F^T = I, by the Cholesky factor of A's rows at unit length."""
    size = gram.diagonal(dim1=-2, dim2=-1).sqrt().clamp_min(_SHORTEST)
    unit = gram / size.unsqueeze(-1) / size.unsqueeze(-2)
    eps = torch.finfo(gram.dtype).eps
    return inverse_cholesky(unit, gram.new_full((1, 1), eps)) / size.unsqueeze(-2)


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


def _oblique(down: Tensor, least: float) -> Tensor:
    """Mask of unit rows with a squared singular value below ``least``, ``(K,)``.

    Cholesky's algorithm decides it on the device; a zero row counts as oblique.
    """
    size = torch.linalg.vector_norm(down, dim=-1, keepdim=True)
    unit = down / size.clamp_min(_SHORTEST)
    gram = unit @ unit.mT
    identity = torch.eye(gram.shape[-1], dtype=gram.dtype, device=gram.device)
    return torch.linalg.cholesky_ex(gram - least * identity).info != 0


def _enter_svd_gauge(batch: PairBatch, index: int) -> None:
    """The SVD gauge with floored singular values."""
    sigma, right = enter_svd_gauge(batch, index, _STATES)
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
        params: model, named parameters, or iterable of parameters or parameter groups
            to optimize.
        lr: spectral norm of the step of the product.
        momentum: momentum factor beta, in [0, 1).
        momentum_form: ``"raw"`` stores the momentum before msign (equation 10 of the
            paper), ``"orthogonal"`` after it (its algorithm 4).
        weight_decay: decay of the product inside the retraction (times lr).
        rest_lr_ratio: AdamW learning rate of parameters outside pairs, as a multiple of
            lr.
        beta1: beta1 of AdamW for parameters outside pairs.
        beta2: beta2 of AdamW for parameters outside pairs.
        eps: epsilon of AdamW for parameters outside pairs.

    Raises:
        OptionError: If an option is out of bounds, or B is not in float32 at the first
            step.
        PairingError: If the roles of parameters are ambiguous.
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
