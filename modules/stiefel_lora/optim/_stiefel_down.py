"""How Stiefel-LoRA moves A, which is free; see :mod:`._stiefel_rule` for the whole."""

from __future__ import annotations

import torch
from torch import Tensor

from ._heavy_ball import ahead, heavy_ball
from .factor_rule import Core, FactorBatch, FactorRule, Number

__all__ = ["MuonDown", "SignDown"]

STATE = "momentum_down"


class MuonDown(FactorRule):
    """A-rule "muon": the polar factor of the momentum, spectral norm 1."""

    def look(self, batch: FactorBatch) -> Core:
        """Carry the momentum on; return U U^T of the direction U."""
        heavy_ball(batch, STATE)
        direction = ahead(batch, STATE)
        return {"gram": direction @ direction.mT}

    def move(self, batch: FactorBatch, core: Core) -> None:
        """A <- (1 - decay) A - lr T U."""
        turn = core["polar"] * batch.lr
        direction = ahead(batch, STATE)
        batch.release()
        batch.point = torch.baddbmm(_decayed(batch), turn, direction, alpha=-1)


class SignDown(FactorRule):
    """A-rule "sign": entries of size 0.2 lr, the RMS of a typical AdamW step."""

    # Entries do not depend on one another.
    looks = False

    def move(self, batch: FactorBatch, core: Core) -> None:
        """A <- (1 - decay) A - 0.2 lr sign(m)."""
        move = heavy_ball(batch, STATE).sign()
        batch.point = _decayed(batch) - 0.2 * batch.lr * move


def _decayed(batch: FactorBatch) -> Tensor:
    """(1 - decay) A; decoupled from the gradient."""
    decay: Number = batch.numbers["weight_decay"]
    if not isinstance(decay, Tensor) and decay == 0:
        return batch.point
    if batch.choices["decay_rule"] == "adamw":
        return batch.point * (1 - batch.lr * decay)
    rank = batch.point.shape[-2]
    return batch.point * (1 - decay / rank * batch.numbers["schedule"])
