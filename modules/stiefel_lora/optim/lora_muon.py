r"""LoRA-Muon: orthogonalized updates of A and B, each in the metric of the other.

With momenta :math:`M`, Gram matrices :math:`S_A = A A^T`, :math:`S_B = B^T B` and the
learning rate :math:`\eta`:

.. math::
    M &\leftarrow \mu M + G \\
    \Delta B &= -\tfrac{\eta}{2}\,\mathrm{msign}(M_B S_A^{-1/2})\,S_A^{-1/2}, \qquad
    \Delta A = -\tfrac{\eta}{2}\,S_B^{-1/2}\,\mathrm{msign}(S_B^{-1/2} M_A) \\
    X &\leftarrow \sigma X + \Delta X / \sigma, \qquad
    \sigma = \sqrt{1 - \lambda\eta}, \quad X = B, A

Both :math:`\Delta B\,A` and :math:`B\,\Delta A` have the spectral norm :math:`\eta /
2`, so the spectral norm of the update of the product is at most :math:`\eta`, and the
product decays by :math:`\lambda\eta`. The paper averages gradients, :math:`m \leftarrow
\mu m + (1 - \mu) g`, which has the same direction.

**Difference from the paper.** In directions in which the product is smaller than one
update, the Gram matrices are damped, see :mod:`._gram_frames`. A LoRA starts with B =
0, and after the first low-rank gradient, most directions of B are rounding errors.

**Cost.** :math:`\mathrm{msign}(M F^T) F` is the same for every F with :math:`F^T F =
S^{-1}`, so F is the inverse of a Cholesky factor, and :math:`\Delta B = M_B T` with an
r x r matrix T. Each factor needs three products with tall matrices.

References:
    "LoRA-Muon", 2026, arXiv:2606.12921 (the step, and the split decay).
    "iMuon", 2026, arXiv:2605.09238 (the same directions at twice the size).
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from ..geometry import gram_of, polar_core
from ._gram_frames import framed, frames, kept, over, unit
from ._moments import heavy_ball
from ._two_alike import AlikeFactor, AlikeRule
from .groups import Source
from .pair_optimizer import PairOptimizer
from .rule import Core, FactorBatch, Solver

__all__ = ["LoRAMuon"]


class MuonFactor(AlikeFactor):
    """Update rule of one factor and its momentum."""

    def look(self, batch: FactorBatch) -> Core:
        """Add the gradient. Return the Gram matrices of the factor and its momentum."""
        point, momentum = batch.point, heavy_ball(batch, f"momentum_{self.role}")
        if self.role == "up":
            return {"size": gram_of(point), "force": gram_of(momentum)}
        return {"size": point @ point.mT, "force": momentum @ momentum.mT}

    def move(self, batch: FactorBatch, core: Core) -> None:
        """X <- sigma X + M T, or T M for A."""
        momentum, turn = batch.state[f"momentum_{self.role}"], core["turn"]
        both = (momentum, turn) if self.role == "up" else (turn, momentum)
        batch.point = torch.baddbmm(core["keep"] * batch.point, *both)


def solve(
    up: Core, down: Core, lr: Tensor, numbers: Mapping[str, Tensor]
) -> tuple[Core, Core]:
    """Compute T and sigma of both factors from Gram matrices of K pairs of one rank."""
    found = frames(up["size"], down["size"], lr / (2 * numbers["growth"]))
    frame = torch.cat([found.over_up, found.over_down])
    force, strength = unit(torch.cat([up["force"], down["force"]]))
    turn = frame.mT @ polar_core(framed(frame, force)) @ frame
    # A factor without momentum, or whose partner is 0, does not move.
    scale = (strength * torch.cat([found.down_size, found.up_size])).sqrt()
    keep = kept(lr, numbers["weight_decay"])
    length = -0.5 * lr / keep
    turn = turn * over(torch.cat([length, length]), scale)
    turn_up, turn_down = turn.split(len(lr))
    return {"turn": turn_up, "keep": keep}, {"turn": turn_down, "keep": keep}


class LoRAMuonRule(AlikeRule):
    """Update rule in the docstring of this module, in two passes."""

    factor = MuonFactor
    own = ("growth",)
    of_pair = ("growth",)

    def solver(self, choices: Mapping[str, Any]) -> Solver | None:
        """Return the solver. Each factor needs the Gram matrix of the other factor."""
        return solve


class LoRAMuon(PairOptimizer):
    """LoRA-Muon optimizer: orthogonalized updates of A and B.

    Each factor is updated in the metric of the other one, so that the update of the
    product B A does not depend on its factorization. LoRA alpha must equal the rank.
    The optimizer can only check this if it receives the model.

    Args:
        params: model, named parameters, or iterable of parameters or parameter groups
            to optimize.
        lr: maximum spectral norm of the update of the product B A. Each factor
            contributes half of it.
        momentum: momentum factor mu of both factors, in [0, 1).
        growth: maximum relative change of a factor per step. No direction of A or B
            changes by more than this multiple of its current length.
        rest_lr_ratio: AdamW learning rate of parameters outside pairs, as a multiple of
            lr.
        weight_decay: weight decay of the product (times lr). Each factor contributes
            half of it.
        beta1: beta1 of AdamW for parameters outside pairs.
        beta2: beta2 of AdamW for parameters outside pairs.
        eps: epsilon of AdamW for parameters outside pairs.

    Raises:
        OptionError: If an option is out of bounds.
        PairingError: If parameters cannot be assigned to A and B unambiguously.
    """

    method = "lora_muon"
    rule = LoRAMuonRule()

    def __init__(
        self,
        params: Source,
        lr: float | Tensor = 1e-2,
        *,
        momentum: float = 0.9,
        growth: float = 0.5,
        rest_lr_ratio: float = 0.05,
        weight_decay: float = 0.0,
        beta1: float = 0.9,
        beta2: float = 0.999,
        eps: float = 1e-8,
    ) -> None:
        options = {
            "momentum": momentum,
            "growth": growth,
            "rest_lr_ratio": rest_lr_ratio,
            "weight_decay": weight_decay,
            "beta1": beta1,
            "beta2": beta2,
            "eps": eps,
        }
        super().__init__(params, lr, options)
