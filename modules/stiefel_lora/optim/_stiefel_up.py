r"""How Stiefel-LoRA turns B; see :mod:`._stiefel_rule` for the whole.

Everything tall is a combination of B and the ambient momentum U: with
:math:`P = B^T U` and :math:`C = \mathrm{sym}(P)` the direction is
:math:`\xi = U - B C`, so a step is :math:`B X + U Z` with r x r matrices X and Z, and
xi itself is needed for its Gram matrix alone.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from ..geometry import (
    nearest_orthonormal,
    qr_gauge,
    spectral_norm_of_gram,
    symmetric,
    trace,
)
from ._heavy_ball import ahead, heavy_ball
from .factor_rule import Core, FactorBatch, FactorRule, Number

__all__ = ["TurnUp"]

STATE = "momentum_up"

# A tangent part below this share of the ambient vector is not followed: rounding is
# some per cent of it in float32, and scaling it up to a full step would follow that.
_ROUNDING = 1e-4
# Longest step, in the spectral norm, that one polar retraction is asked to take.
_LONGEST = 0.5


class TurnUp(FactorRule):
    """B-rules "spectral" and "momentum", with both retractions."""

    def look(self, batch: FactorBatch) -> Core:
        """Carry the momentum on; return B^T U, and the Gram matrix of xi."""
        point, momentum = batch.point, heavy_ball(batch, STATE)
        if batch.choices["transport"]:
            # In place, on the new momentum; tangent_project would make another.
            momentum.baddbmm_(point, symmetric(point.mT @ momentum), alpha=-1)
        ambient = ahead(batch, STATE)
        along = point.mT @ ambient
        normal = symmetric(along)
        whole = torch.linalg.vector_norm(ambient, dim=(-2, -1), keepdim=True)
        room = None if ambient is momentum else ambient
        tangent = torch.baddbmm(ambient, point, normal, alpha=-1, out=room)
        gram = tangent.mT @ tangent
        size = trace(gram).sqrt()
        core = {"normal": normal, "skew": along - normal, "size": size}
        core["moves"] = size > _ROUNDING * whole
        spectral = batch.choices["b_rule"] == "spectral"
        return core | {"gram" if spectral else "own_gram": gram}

    def move(self, batch: FactorBatch, core: Core) -> None:
        """Take the step and bring B back."""
        ambient = ahead(batch, STATE)
        batch.release()
        # Replaced at once, so that the old point does not take room any longer.
        batch.point = _RULES[batch.choices["b_rule"]](batch, core, ambient)
        if batch.choices["retraction"] == "qr":
            batch.point = qr_gauge(batch.point)[0]
        else:
            batch.point = nearest_orthonormal(batch.point, _LONGEST)


def _spectral(batch: FactorBatch, core: Core, ambient: Tensor) -> Tensor:
    r"""B - theta Pi_B(xi T) with the polar core T of xi.

    :math:`\Pi_B(\xi T) = \xi T - B\,\mathrm{sym}(\Omega T)` with
    :math:`\Omega = B^T \xi`, the skew part of :math:`B^T U`. Both summands have
    spectral norm <= 1 and orthogonal ranges, so the step is no longer than sqrt(2)
    theta.
    """
    theta = _at_most(_angle(batch), _LONGEST / 2**0.5)
    turn = core["polar"] * core["moves"] * theta
    inside = torch.baddbmm(symmetric(core["skew"] @ turn), core["normal"], turn)
    moved = torch.baddbmm(batch.point, batch.point, inside)
    return moved.baddbmm_(ambient, turn, alpha=-1)


def _momentum(batch: FactorBatch, core: Core, ambient: Tensor) -> Tensor:
    """B - s xi, with the length s of the rule."""
    factor = _LENGTHS[batch.choices["b_length"]](batch, core)
    if batch.choices["retraction"] == "polar":
        # The fourth root of tr((X^T X)^2) bounds the spectral norm, by at most r^(1/4),
        # without a factorisation.
        bound = torch.linalg.matrix_norm(core["own_gram"], keepdim=True).sqrt()
        factor = torch.minimum(factor, _LONGEST / _divisor(bound, core))
    factor = factor * core["moves"]
    moved = torch.addcmul(batch.point, ambient, factor, value=-1)
    return moved.baddbmm_(batch.point, core["normal"] * factor)


def _angle_length(batch: FactorBatch, core: Core) -> Tensor:
    """Frobenius length theta sqrt(r)."""
    rank = batch.point.shape[-1]
    return _angle(batch) * rank**0.5 / _divisor(core["size"], core)


def _rms_length(batch: FactorBatch, core: Core) -> Tensor:
    """Entries of RMS 0.2 lr: Frobenius length 0.2 lr sqrt(out r)."""
    rows, rank = batch.point.shape[-2:]
    return 0.2 * batch.lr * (rows * rank) ** 0.5 / _divisor(core["size"], core)


def _spectral_length(batch: FactorBatch, core: Core) -> Tensor:
    """Spectral length theta."""
    return _angle(batch) / _divisor(spectral_norm_of_gram(core["own_gram"]), core)


def _raw_length(batch: FactorBatch, core: Core) -> Tensor:
    """The direction's own length times theta."""
    return torch.ones_like(core["size"]) * _angle(batch)


def _divisor(norm: Tensor, core: Core) -> Tensor:
    """The norm of a direction that is followed, 1 for the others."""
    return torch.where(core["moves"], norm, 1.0)


def _angle(batch: FactorBatch) -> Number:
    """theta, radians (a plain factor under "raw")."""
    return batch.lr * batch.numbers["angle_per_lr"]


def _at_most(value: Number, limit: float) -> Number:
    if isinstance(value, Tensor):
        return value.clamp(max=limit)
    return min(value, limit)


_RULES: dict[str, Any] = {"spectral": _spectral, "momentum": _momentum}
_LENGTHS: dict[str, Any] = {
    "angle": _angle_length,
    "rms": _rms_length,
    "spectral": _spectral_length,
    "raw": _raw_length,
}
