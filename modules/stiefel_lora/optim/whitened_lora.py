r"""Whitened LoRA: the second moments of LoRA-RITE with an orthonormal B.

:math:`B^T B = I` and :math:`A^T = U H` with :math:`H = (A A^T)^{1/2}`. With gradients
G, :math:`\hat\beta = \beta (1 - \beta^{t-1}) / (1 - \beta^t)` at step t = 1, 2, ...,
rotations P of the bases since the last step and the learning rate :math:`\eta`:

.. math::
    \bar G_A &= G_A^T, \qquad \bar G_B = (I - B B^T)\,G_B H^{-1} \\
    P_A &= B_t^T B_{t-1}, \qquad P_B = U_t^T U_{t-1} \\
    V &\leftarrow \hat\beta_2 P V P^T + (1-\hat\beta_2)\,\bar G^T\bar G/\mathrm{rows} \\
    S &= \bar G\,(V + 10^{-4}\lambda_{\max}(V) I)^{-1/2} \\
    M &\leftarrow \hat\beta_1 M P^T + (1-\hat\beta_1)\,S, \qquad
        M_B \leftarrow (I - B B^T) M_B \\
    A &\leftarrow A - \eta M_A^T, \qquad
    \Xi = \eta M_B (H^2 + \delta^2 I)^{-1/2},
        \quad \delta = \eta\sqrt{\mathrm{out}}/s \\
    B &\leftarrow (B - \Xi)(I + \Xi^T\Xi)^{-1/2}

where :math:`\Xi` is scaled down to a spectral norm of s, ``longest_turn``. While A = 0,
only A moves. Weight decay shrinks A, and with it the product, by :math:`\lambda\eta`.

**State.** M_B and V_B are stored as :math:`M_B H` and :math:`H V_B H`, which transform
like gradients. They are transported from A to the new A' by :math:`(A A^T)^{-1} A
A'^T`, for which no basis is needed. For the new B', :math:`B'^T B = (I +
\Xi^T\Xi)^{-1/2}`, so the state of A is transported at the end of a step.

**Cost.** Inverse square roots are computed with Polar Express on r x r matrices. In
float32, singular values of A below about :math:`10^{-3}\|A\|_F` are reduced, which acts
as a cutoff.

References:
    This package. J.-N. Yen et al., "LoRA Done RITE", 2024, arXiv:2410.20625 (second
    moments in a rotating basis).
"""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import Any

import torch
from torch import Tensor

from ..geometry import (
    cross_gram,
    gram_of,
    inverse_sqrt_of_retraction,
    polar_core,
    spectral_norm_of_gram,
    symmetric,
    trace,
)
from ._gram_frames import SHARE, negligible
from .groups import Source
from .pair_optimizer import PairOptimizer
from .rule import Core, FactorBatch, FactorRule, Role, Rule, Solver, StateShape

__all__ = ["WhitenedLoRA"]

_SPREAD = 1e-4
"""Fraction of the largest eigenvalue that is added to a second moment."""
_STEEPEST = 1.0


class WhitenedUp(FactorRule):
    """Update rule of B, with its momentum and the r x r states of the pair."""

    moves_state = True

    def look(self, batch: FactorBatch) -> Core:
        """Return Gram matrices of B, gradient and momentum, and the r x r states."""
        point, grad, mean = batch.point, batch.grad, batch.state["mean_up"]
        batch.state["count"] = batch.state["count"] + 1
        return {
            "grad_inside": cross_gram(point, grad),
            "mean_inside": cross_gram(point, mean),
            "grad": gram_of(grad),
            "cross": cross_gram(mean, grad),
            "mean": gram_of(mean),
            "rows": torch.full_like(batch.state["count"], point.shape[-2]),
            "count": batch.state["count"],
            "square_up": batch.state["square_up"],
            "square_down": batch.state["square_down"],
        }

    def move(self, batch: FactorBatch, core: Core) -> None:
        """Update B and M by linear combinations, then reorthonormalize B."""
        rank = batch.point.shape[-1]
        both = torch.baddbmm(
            batch.point @ core["of_point"], batch.state["mean_up"], core["of_mean"]
        )
        both = torch.baddbmm(both, batch.grad, core["of_grad"])
        moved, batch.state["mean_up"] = both[..., :rank], both[..., rank:]
        batch.point = torch.baddbmm(moved, moved, _correction(gram_of(moved)))
        batch.state["square_up"] = core["square_up"]
        batch.state["square_down"] = core["square_down"]


def _correction(gram: Tensor) -> Tensor:
    """Return T with X (I + T) orthonormal to (K - I)^3, from K = X^T X near I.

    The first terms of K^(-1/2): with only the first one, an error of 4e-3, which occurs
    where A is nearly singular, would leave 1e-5.
    """
    error = gram - torch.eye(gram.shape[-1], dtype=gram.dtype, device=gram.device)
    return torch.baddbmm(error, error, error, beta=-0.5, alpha=0.375)


class WhitenedDown(FactorRule):
    """Update rule of A and its momentum."""

    moves_state = True

    def look(self, batch: FactorBatch) -> Core:
        """Return A A^T, A M^T, A G^T and G G^T."""
        point, grad = batch.point, batch.grad
        return {
            "size": point @ point.mT,
            "mean": point @ batch.state["mean_down"].mT,
            "cross": point @ grad.mT,
            "grad": grad @ grad.mT,
            "columns": torch.full_like(point[:, :1, :1], point.shape[-1]),
        }

    def move(self, batch: FactorBatch, core: Core) -> None:
        """Update M <- keep M + T G and A, then transport M to the new B."""
        mean = core["mean"] * batch.state["mean_down"] + core["of_grad"] @ batch.grad
        batch.point = core["keep"] * batch.point - core["lr"] * mean
        batch.state["mean_down"] = core["turn"] @ mean


# Results of the first pass of B that contain its gradient.
_OF_GRADIENT = ("grad", "grad_inside", "cross")


def solve(
    up: Core, down: Core, lr: Tensor, numbers: Mapping[str, Tensor]
) -> tuple[Core, Core]:
    """Compute the coefficients of both updates from the r x r matrices of K pairs."""
    size, count = down["size"], up["count"]
    one = torch.eye(size.shape[-1], dtype=size.dtype, device=size.device)
    beta1, beta2 = (_corrected(numbers[f"beta{i}"], count) for i in (1, 2))
    # delta^2 I; A = 0 has no frame, so B takes no step.
    damp = (lr / numbers["longest_turn"]).square() * up["rows"]
    there = trace(size) > negligible(size.dtype)
    # H^-1 and (H^2 + delta^2 I)^(-1/2), by one call for both.
    over, damped = polar_core(torch.cat([size, size + damp * one])).split(len(lr))
    over, damped = torch.where(there, over, 0.0), torch.where(there, damped, 0.0)
    # Gram matrix of (I - B B^T) G_B without forming it. The states of B are stored as
    # M_B H and H V_B H, so ``over`` is a factor wherever they are used.
    outside = up["grad"] - up["grad_inside"].mT @ up["grad_inside"]
    up, outside, fits = _without_overflow(up, outside, over)
    inside, carried = up["grad_inside"], up["mean_inside"]
    # Whitening would amplify a gradient that is only rounding inside of B to a step.
    resolved = trace(outside) > 8 * SHARE[size.dtype] * trace(up["grad"])
    outside = torch.where(resolved, outside, 0.0)
    square_up = _square_up(up, over, outside, beta2)
    square_down = beta2 * up["square_down"]
    square_down = square_down + (1 - beta2) * down["grad"] / down["columns"]
    root_up = _inverse_root(square_up, one)
    root_down = _inverse_root(square_down, one)
    # M_B = (M - B B^T M) kept + (G - B B^T G) new.
    kept, new = beta1 * over, (1 - beta1) * torch.where(fits, over, 0.0) @ root_up
    gram = _gram_of_mean(up, outside, kept, new)
    # Xi = M_B step, and turn = Xi^T Xi.
    step = lr * damped
    turn = symmetric(step @ gram @ step)
    longest = spectral_norm_of_gram(turn)
    shrink = (numbers["longest_turn"] / longest.clamp_min(1e-30)).clamp_max(1.0)
    step, turn = shrink * step, shrink.square() * turn
    root = inverse_sqrt_of_retraction(one + symmetric(turn), _STEEPEST)
    share, keep = 1 - beta1, 1 - lr * numbers["weight_decay"]
    # A M_A^T with the new momentum, and A A'^T with the moved A'.
    along = beta1 * down["mean"] + share * down["cross"] @ root_down
    moved = keep * size - lr * along
    # Transport to A': the stored M_B H times (A A^T)^-1 A A'^T is M_B carry, and H V_B
    # H becomes carry^T V_B carry. A's states are rotated by B'^T B = root.
    carry = over @ moved
    turned = -step @ root
    # The first r columns make B', the others the stored momentum.
    mean, grad = (torch.cat([x @ turned, x @ carry], -1) for x in (kept, new))
    point = torch.cat([root, torch.zeros_like(root)], -1)
    return (
        {
            "of_point": point - carried @ mean - inside @ grad,
            "of_mean": mean,
            "of_grad": grad,
            "square_up": symmetric(carry.mT @ square_up @ carry),
            "square_down": symmetric(root @ square_down @ root),
        },
        {
            "mean": beta1,
            "of_grad": share * root_down,
            "keep": keep,
            "lr": lr,
            "turn": root,
        },
    )


def _without_overflow(
    up: Core, outside: Tensor, over: Tensor
) -> tuple[Core, Tensor, Tensor]:
    """Leave out gradients of B that overflow. Return also which ones are left.

    The square of a gradient of B that is 1e19 times A overflows. From 1e14 on, it
    contradicts every finite gradient of A.
    """
    fits = trace(over @ outside @ over) < 1e-9 * torch.finfo(over.dtype).max
    seen = {name: torch.where(fits, up[name], 0.0) for name in _OF_GRADIENT}
    return up | seen, torch.where(fits, outside, 0.0), fits


def _square_up(up: Core, over: Tensor, outside: Tensor, beta2: Tensor) -> Tensor:
    """Update the second moment V_B with the gradient of this step."""
    size = up["grad"]
    one = torch.eye(size.shape[-1], dtype=size.dtype, device=size.device)
    fresh = over @ outside @ over / up["rows"]
    square = beta2 * (over @ up["square_up"] @ over) + (1 - beta2) * fresh
    # Rounding of the Gram matrices, which A's inverse root magnifies.
    whole = beta2 * trace(up["square_up"]) + (1 - beta2) * trace(size) / up["rows"]
    noise = 8 * torch.finfo(size.dtype).eps * over.square().sum((-2, -1), keepdim=True)
    return symmetric(square) + noise * whole * one


def _gram_of_mean(up: Core, outside: Tensor, kept: Tensor, new: Tensor) -> Tensor:
    """Compute M_B^T M_B for M_B = (M - B B^T M) kept + (G - B B^T G) new."""
    inside, carried = up["grad_inside"], up["mean_inside"]
    cross = kept.mT @ (up["cross"] - carried.mT @ inside) @ new
    old = kept.mT @ (up["mean"] - carried.mT @ carried) @ kept
    return old + cross + cross.mT + new.mT @ outside @ new


def _inverse_root(square: Tensor, one: Tensor) -> Tensor:
    """Return (V + 1e-4 lambda_max I)^(-1/2), or 0 if V = 0."""
    size = trace(square)
    unit = square / size.clamp_min(torch.finfo(size.dtype).tiny)
    largest = spectral_norm_of_gram(unit).square()
    root = polar_core(unit + _SPREAD * largest * one)
    scale = size.clamp_min(torch.finfo(size.dtype).tiny).rsqrt()
    return torch.where(size > torch.finfo(size.dtype).tiny, scale * root, 0.0)


def _corrected(beta: Tensor, count: Tensor) -> Tensor:
    """Return Adafactor's decay: 0 at the first step, converging to beta."""
    return beta * (1 - beta ** (count - 1)) / (1 - beta**count)


class WhitenedRule(Rule):
    """Update rule in the docstring of this module, in two passes."""

    orthonormal_up = True
    # In the state, M_B is M_B H, and V_B is H V_B H.
    scale_powers = MappingProxyType({"mean_up": 1, "square_up": 2})
    _rules: Mapping[Role, FactorRule] = {"up": WhitenedUp(), "down": WhitenedDown()}

    def choices(self, group: Mapping[str, Any]) -> dict[str, Any]:
        """Return the options that select code: none."""
        return {}

    def numbers(self, group: Mapping[str, Any]) -> dict[str, float]:
        """Return beta1, beta2, ``longest_turn`` and weight decay."""
        names = ("beta1", "beta2", "longest_turn", "weight_decay")
        return {name: group[name] for name in names}

    def joint_numbers(self, choices: Mapping[str, Any]) -> tuple[str, ...]:
        """Return the names of the numeric options of the solver."""
        return ("lr", "beta1", "beta2", "longest_turn", "weight_decay")

    def states(self, choices: Mapping[str, Any]) -> dict[str, StateShape]:
        """Return the state shapes: momenta, second moments and the number of steps."""
        return {
            "mean_up": "up",
            "mean_down": "down",
            "square_up": "core",
            "square_down": "core",
            "count": "scalar",
        }

    def factor_rules(self, choices: Mapping[str, Any]) -> Mapping[Role, FactorRule]:
        """Return the rules of B and A."""
        return self._rules

    def solver(self, choices: Mapping[str, Any]) -> Solver | None:
        """Return the solver. Each factor needs the basis of the other factor."""
        return solve


class WhitenedLoRA(PairOptimizer):
    """Whitened LoRA optimizer: orthonormal B with the second moments of LoRA-RITE.

    LoRA alpha must equal the rank. The optimizer can only check this if it receives the
    model.

    Args:
        params: model, named parameters, or iterable of parameters or parameter groups
            to optimize.
        lr: root mean square of the entries of the update of A.
        longest_turn: maximum spectral norm of the update of B before normalization.
            This is the tangent of the maximum angle by which B rotates.
        weight_decay: decoupled weight decay of A, and therefore of the product B A,
            multiplied by lr.
        beta1: decay rate of the first moment.
        beta2: decay rate of the second moment.
        eps: epsilon of AdamW for parameters outside pairs.

    Raises:
        OptionError: If an option is out of bounds.
        PairingError: If parameters cannot be assigned to A and B unambiguously.
    """

    method = "whitened_lora"
    rule = WhitenedRule()

    def __init__(
        self,
        params: Source,
        lr: float | Tensor = 1e-3,
        *,
        longest_turn: float = 0.3,
        weight_decay: float = 0.0,
        beta1: float = 0.9,
        beta2: float = 0.999,
        eps: float = 1e-8,
    ) -> None:
        options = {
            "longest_turn": longest_turn,
            "weight_decay": weight_decay,
            "beta1": beta1,
            "beta2": beta2,
            "eps": eps,
        }
        super().__init__(params, lr, options)
