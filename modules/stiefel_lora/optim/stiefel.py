r"""Stiefel-LoRA: B on the Stiefel manifold, A free.

:math:`\Delta W = B A` with :math:`B^T B = I`, so that
:math:`\sigma_i(BA) = \sigma_i(A)`: B holds directions, A holds size. One step, with
:math:`\Pi_B(Z) = Z - B\,\mathrm{sym}(B^T Z)` the tangent projection, angle
:math:`\theta =` ``angle_per_lr`` x ``lr`` and momentum :math:`\mu`:

.. math::
    M &\leftarrow \mu\,\Pi_B(M) + G_B \\
    \xi &= \Pi_B(M), \quad \text{Nesterov: } \xi = \Pi_B(G_B + \mu M) \\
    \text{momentum:}\quad \xi &\leftarrow \theta\sqrt r\;\xi / \|\xi\|_F \\
    \text{spectral:}\quad \xi &\leftarrow \theta\;\Pi_B(\mathrm{msign}(\xi)) \\
    B &\leftarrow (B-\xi)\,[(B-\xi)^T(B-\xi)]^{-1/2}

The projection of the old momentum is the transport between tangent spaces. ``momentum``
turns the columns of B by :math:`\theta` radians in the root mean square, ``spectral``
turns every direction by about :math:`\theta` (the second projection leaves a spectral
norm of at most :math:`\sqrt2\,\theta` and a Frobenius norm of at most
:math:`\theta\sqrt r`). A follows AdamW (``lr`` is AdamW's),
``sign`` (:math:`A \leftarrow A - 0.2\,lr\,\mathrm{sign}(m)`) or ``muon``
(:math:`A \leftarrow A - lr\,\mathrm{msign}(m)`; B is orthonormal, so ``lr`` is the
spectral norm of the product's step).

References:
    "Riemannian Optimization for LoRA on the Stiefel Manifold", 2025,
    arXiv:2508.17901 (B on St with tangent momentum; there QR retraction and raw
    length).
    OneTrainer pull request 1333, 2026 (normalised length, sign for A).
    "Spectral Steepest Descent on the Stiefel manifold" (SPEL), 2026,
    arXiv:2601.21487 (msign of the tangent gradient).
    K. Jordan et al., "Muon", 2024 (orthogonalised momentum with Nesterov).
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from ..geometry import polar_factor, retract_polar, tangent_project
from ._groups import Source
from .engine import PairOptimizer
from .rule import PairBatch, StateShape

__all__ = ["StiefelLoRA"]

# Per A-rule: radians of B per unit of lr, and the AdamW rate of what has no pair as a
# multiple of lr. sign with 0.2 x lr has AdamW's scale; muon's lr is a spectral norm,
# some twenty times what AdamW takes.
ANGLE_PER_LR = {"muon": 0.5, "adamw": 2.0, "sign": 7.0}
REST_LR_RATIO = {"muon": 0.05, "adamw": 1.0, "sign": 1.0}

# Below this share of its parts a tangent vector is what rounding left of a normal one;
# it is not scaled up to a full step.
_ROUNDING = 1e-5
# Longest step, in the spectral norm, that one polar retraction is asked to take.
_LONGEST = 0.5


class StiefelRule:
    """The update in the module's docstring, on stacked pairs."""

    orthonormal_up = True

    def choices(self, group: Mapping[str, Any]) -> dict[str, Any]:
        """B-rule, A-rule and Nesterov select code."""
        return {name: group[name] for name in ("b_rule", "a_rule", "nesterov")}

    def numbers(self, group: Mapping[str, Any]) -> dict[str, float]:
        """Angle per lr, momentum and weight decay."""
        angle = group["angle_per_lr"]
        return {
            "angle_per_lr": ANGLE_PER_LR[group["a_rule"]] if angle is None else angle,
            "momentum": group["momentum"],
            "weight_decay": group["weight_decay"],
        }

    def states(self, choices: Mapping[str, Any]) -> dict[str, StateShape]:
        """One momentum for B, one for A unless AdamW holds A's."""
        if self.adamw_down(choices):
            return {"momentum_up": "up"}
        return {"momentum_up": "up", "momentum_down": "down"}

    def adamw_down(self, choices: Mapping[str, Any]) -> bool:
        """A takes torch's AdamW under that rule."""
        return choices["a_rule"] == "adamw"

    def rest_lr_ratio(self, group: Mapping[str, Any]) -> float:
        """AdamW's share of lr."""
        ratio = group["rest_lr_ratio"]
        return REST_LR_RATIO[group["a_rule"]] if ratio is None else ratio

    def update(self, batch: PairBatch) -> None:
        """Turn B, then move A unless AdamW does; the gradients are of the old pair."""
        direction = _tangent_momentum(batch)
        step = _B_RULES[batch.choices["b_rule"]](batch, direction)
        batch.up = retract_polar(
            batch.up, -_bounded(step), iterations=_iterations(step)
        )
        if not self.adamw_down(batch.choices):
            decay = 1 - batch.lr_down * batch.numbers["weight_decay"]
            move = _A_RULES[batch.choices["a_rule"]](batch)
            batch.down = batch.down * decay - batch.lr_down * move


def _tangent_momentum(batch: PairBatch) -> Tensor:
    """Update B's momentum and return the tangent direction, zero where all rounding."""
    mu, gradient = batch.numbers["momentum"], batch.grad_up
    carried = tangent_project(batch.up, batch.state["momentum_up"])
    buffer = mu * carried + gradient
    batch.state["momentum_up"] = buffer
    ambient = gradient + mu * buffer if batch.choices["nesterov"] else buffer
    tangent = tangent_project(batch.up, ambient)
    floor = _ROUNDING * _frobenius(ambient)
    return tangent * (_frobenius(tangent) > floor)


def _momentum_step(batch: PairBatch, direction: Tensor) -> Tensor:
    """B-rule "momentum": Frobenius length theta sqrt(r)."""
    angle = batch.lr_up * batch.numbers["angle_per_lr"]
    return _unit(direction) * angle * batch.up.shape[-1] ** 0.5


def _spectral_step(batch: PairBatch, direction: Tensor) -> Tensor:
    """B-rule "spectral": every singular value theta, then tangent again."""
    angle = batch.lr_up * batch.numbers["angle_per_lr"]
    return angle * tangent_project(batch.up, polar_factor(direction))


def _muon_move(batch: PairBatch) -> Tensor:
    """A-rule "muon": msign of the momentum, spectral norm 1."""
    return polar_factor(_down_momentum(batch, batch.choices["nesterov"]))


def _sign_move(batch: PairBatch) -> Tensor:
    """A-rule "sign": entries of size 0.2, the RMS of a typical AdamW step."""
    return 0.2 * _down_momentum(batch, nesterov=False).sign()


def _down_momentum(batch: PairBatch, nesterov: bool) -> Tensor:
    mu, gradient = batch.numbers["momentum"], batch.grad_down
    buffer = mu * batch.state["momentum_down"] + gradient
    batch.state["momentum_down"] = buffer
    return gradient + mu * buffer if nesterov else buffer


_B_RULES = {"spectral": _spectral_step, "momentum": _momentum_step}
_A_RULES = {"muon": _muon_move, "sign": _sign_move}


def _frobenius(matrix: Tensor) -> Tensor:
    return torch.linalg.vector_norm(matrix, dim=(-2, -1), keepdim=True)


def _unit(matrix: Tensor) -> Tensor:
    """M / ||M||_F, and 0 for 0."""
    return matrix / (_frobenius(matrix) + torch.finfo(matrix.dtype).tiny)


def _bounded(step: Tensor) -> Tensor:
    """Shorten steps whose spectral norm may exceed the bound.

    The fourth root of tr((X^T X)^2) is the Schatten 4-norm, an upper bound of the
    spectral norm (by at most r^(1/4)) that needs no factorisation.
    """
    gram = step.mT @ step
    bound = _frobenius(gram).sqrt()
    return step * (_LONGEST / bound.clamp_min(_LONGEST))


def _iterations(step: Tensor) -> int:
    """Newton-Schulz iterations for Gram eigenvalues in [1, 1 + _LONGEST^2]."""
    return 8 if step.dtype == torch.float64 else 6


class StiefelLoRA(PairOptimizer):
    """Train LoRA with B orthonormal: the rank that is paid for is used.

    B is brought into the gauge at the first step and after every load, without
    changing the product; B = 0 gets a seeded orthonormal start and A = 0. LoRA alpha
    must equal the rank, which an optimizer alone can not see.

    Args:
        params: model, named parameters, parameters or groups of them.
        lr: unit of the A-rule. muon: spectral norm of the product's step; adamw:
            AdamW's; sign: RMS 0.2 x lr of A's entries.
        b_rule: ``"spectral"`` or ``"momentum"``, direction and length of B's step.
        a_rule: ``"muon"``, ``"adamw"`` or ``"sign"``.
        angle_per_lr: radians that B turns per unit of lr; None: 0.5 with muon, 2 with
            adamw, 7 with sign.
        momentum: mu in [0, 1), of B and of A under muon and sign.
        nesterov: look one momentum step ahead (B, and A under muon).
        rest_lr_ratio: AdamW rate of parameters outside pairs, as a multiple of lr;
            None: 0.05 with muon, else 1.
        weight_decay: decoupled decay of A (times lr); B never decays.
        beta1: AdamW, for A and for parameters outside pairs.
        beta2: likewise.
        eps: likewise.

    Raises:
        OptionError: an option out of bounds; at the first step, B not in float32.
        PairingError: parameters whose roles can not be told without guessing.
    """

    method = "stiefel_lora"
    rule = StiefelRule()

    def __init__(
        self,
        params: Source,
        lr: float | Tensor = 2e-2,
        *,
        b_rule: str = "spectral",
        a_rule: str = "muon",
        angle_per_lr: float | None = None,
        momentum: float = 0.9,
        nesterov: bool = True,
        rest_lr_ratio: float | None = None,
        weight_decay: float = 0.0,
        beta1: float = 0.9,
        beta2: float = 0.999,
        eps: float = 1e-8,
    ) -> None:
        options = {
            "b_rule": b_rule,
            "a_rule": a_rule,
            "angle_per_lr": angle_per_lr,
            "momentum": momentum,
            "nesterov": nesterov,
            "rest_lr_ratio": rest_lr_ratio,
            "weight_decay": weight_decay,
            "beta1": beta1,
            "beta2": beta2,
            "eps": eps,
        }
        super().__init__(params, lr, options)
