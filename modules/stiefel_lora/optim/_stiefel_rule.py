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

from ..geometry import (
    polar_factor,
    retract_polar,
    retract_qr,
    spectral_norm,
    tangent_project,
)
from .rule import PairBatch, Role, Rule, StateShape

__all__ = ["StiefelRule"]

# Per A-rule: radians of B per unit of lr, and the AdamW rate of what has no pair as a
# multiple of lr. sign with 0.2 x lr has AdamW's scale; muon's lr is a spectral norm,
# some twenty times what AdamW takes.
ANGLE_PER_LR = {"muon": 0.5, "adamw": 2.0, "sign": 7.0}
REST_LR_RATIO = {"muon": 0.05, "adamw": 1.0, "sign": 1.0}

_CHOICES = (
    "b_rule",
    "b_length",
    "retraction",
    "transport",
    "a_rule",
    "nesterov",
    "decay_rule",
)

# Below this share of its parts a tangent vector is what rounding left of a normal one;
# it is not scaled up to a full step.
_ROUNDING = 1e-5
# Longest step, in the spectral norm, that one polar retraction is asked to take.
_LONGEST = 0.5


class StiefelRule(Rule):
    """The update in the module's docstring, on stacked pairs."""

    orthonormal_up = True

    def choices(self, group: Mapping[str, Any]) -> dict[str, Any]:
        """Rules, retraction, transport and Nesterov select code."""
        return {name: group[name] for name in _CHOICES}

    def numbers(self, group: Mapping[str, Any]) -> dict[str, float]:
        """Angle per lr, momentum and weight decay."""
        angle = group["angle_per_lr"]
        return {
            "angle_per_lr": ANGLE_PER_LR[group["a_rule"]] if angle is None else angle,
            "momentum": group["momentum"],
            "weight_decay": group["weight_decay"],
            "schedule": _schedule(group),
        }

    def states(self, choices: Mapping[str, Any]) -> dict[str, StateShape]:
        """One momentum for B, one for A unless AdamW holds A's."""
        if choices["a_rule"] == "adamw":
            return {"momentum_up": "up"}
        return {"momentum_up": "up", "momentum_down": "down"}

    def adamw_roles(self, group: Mapping[str, Any]) -> dict[Role, float]:
        """A takes torch's AdamW under that rule."""
        return {"down": 1.0} if group["a_rule"] == "adamw" else {}

    def rest_lr_ratio(self, group: Mapping[str, Any]) -> float:
        """AdamW's share of lr."""
        ratio = group["rest_lr_ratio"]
        return REST_LR_RATIO[group["a_rule"]] if ratio is None else ratio

    def update(self, batch: PairBatch) -> None:
        """Turn B, then move A unless AdamW does; the gradients are of the old pair."""
        direction = _tangent_momentum(batch)
        step = _B_RULES[batch.choices["b_rule"]](batch, direction)
        batch.up = _RETRACTIONS[batch.choices["retraction"]](batch.up, step)
        if batch.choices["a_rule"] in _A_RULES:
            decay = _decay(batch)
            move = _A_RULES[batch.choices["a_rule"]](batch)
            batch.down = batch.down * (1 - decay) - batch.lr_down * move


def _schedule(group: Mapping[str, Any]) -> float:
    """Present share of the initial rate; 1 where no scheduler has noted it.

    Only "over_rank" reads it, and reading a rate on the GPU waits for the GPU.
    """
    if group["decay_rule"] != "over_rank":
        return 1.0
    initial = group.get("initial_lr", group["lr"])
    return float(group["lr"]) / float(initial) if float(initial) else 0.0


def _polar(point: Tensor, step: Tensor) -> Tensor:
    return retract_polar(point, -_bounded(step), iterations=_iterations(step))


def _qr(point: Tensor, step: Tensor) -> Tensor:
    return retract_qr(point, -step)


def _decay(batch: PairBatch) -> Tensor:
    """Share of A that a step removes."""
    if batch.choices["decay_rule"] == "adamw":
        return batch.lr_down * batch.numbers["weight_decay"]
    rank = batch.up.shape[-1]
    return batch.numbers["weight_decay"] / rank * batch.numbers["schedule"]


def _tangent_momentum(batch: PairBatch) -> Tensor:
    """Update B's momentum and return the tangent direction, zero where all rounding."""
    mu, gradient = batch.numbers["momentum"], batch.grad_up
    carried = batch.state["momentum_up"]
    if batch.choices["transport"]:
        carried = tangent_project(batch.up, carried)
    buffer = mu * carried + gradient
    batch.state["momentum_up"] = buffer
    ambient = gradient + mu * buffer if batch.choices["nesterov"] else buffer
    tangent = tangent_project(batch.up, ambient)
    floor = _ROUNDING * _frobenius(ambient)
    return tangent * (_frobenius(tangent) > floor)


def _momentum_step(batch: PairBatch, direction: Tensor) -> Tensor:
    """B-rule "momentum": the direction itself, brought to a length."""
    return _LENGTHS[batch.choices["b_length"]](batch, direction)


def _angle_length(batch: PairBatch, direction: Tensor) -> Tensor:
    """Frobenius length theta sqrt(r)."""
    return _unit(direction) * _angle(batch) * batch.up.shape[-1] ** 0.5


def _rms_length(batch: PairBatch, direction: Tensor) -> Tensor:
    """Entries of RMS 0.2 lr: Frobenius length 0.2 lr sqrt(out r)."""
    rows, rank = batch.up.shape[-2:]
    return _unit(direction) * 0.2 * batch.lr_up * (rows * rank) ** 0.5


def _spectral_length(batch: PairBatch, direction: Tensor) -> Tensor:
    """Spectral length theta."""
    tiny = torch.finfo(direction.dtype).tiny
    return direction * (_angle(batch) / (spectral_norm(direction) + tiny))


def _raw_length(batch: PairBatch, direction: Tensor) -> Tensor:
    """The direction's own length times theta."""
    return direction * _angle(batch)


def _angle(batch: PairBatch) -> Tensor:
    """theta, radians (a plain factor under "raw")."""
    return batch.lr_up * batch.numbers["angle_per_lr"]


def _spectral_step(batch: PairBatch, direction: Tensor) -> Tensor:
    """B-rule "spectral": every singular value theta, then tangent again."""
    return _angle(batch) * tangent_project(batch.up, polar_factor(direction))


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


_LENGTHS = {
    "angle": _angle_length,
    "rms": _rms_length,
    "spectral": _spectral_length,
    "raw": _raw_length,
}
_RETRACTIONS = {"polar": _polar, "qr": _qr}
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
