r"""PoLoRA: orthogonalized updates of both factors with a diagonal curvature.

The vector q contains a weight for each input and p a weight for each output. Both are 0
at first. With :math:`\tilde q = q/\max q + \delta` (1 where q = 0), momenta M,
gradients G and the learning rate :math:`\eta`:

.. math::
    M &\leftarrow \beta M + (1-\beta) G, \qquad
        \hat M = \beta M + (1-\beta) G \\
    C_A &= A\,\mathrm{diag}(\tilde q)\,A^T, \qquad
        C_B = B^T\mathrm{diag}(\tilde p)\,B, \qquad
        C \leftarrow C + \delta\,\lambda_{\max}(C)\,I \\
    D_B &= \tilde p^{-1/2}\,\mathrm{msign}(\tilde p^{-1/2} \hat M_B C_A^{-1/2})
        \,C_A^{-1/2}, \qquad D_A \text{ similarly with } C_B \text{ and } \tilde q \\
    \rho &= \eta / (\|A\|_2 + \|B\|_2) \\
    B &\leftarrow B - \rho\,D_B / \|D_B\|_2, \qquad
        A \leftarrow A - \rho\,D_A / \|D_A\|_2 \\
    q &\leftarrow \beta_2 q + (1-\beta_2)\,\mathrm{diag}(G_A^T C_B^{-1} G_A) / r,
        \qquad p \text{ similarly from } G_B C_A^{-1} G_B^T

The update of the product has a spectral norm of at most :math:`\eta` to first order,
for every rank. If the momentum of a factor is 0, as that of A is while B = 0, the
factor is not changed. Weight decay, which the paper does not have, shrinks the product
by :math:`\lambda\eta`.

**Cost.** :math:`\mathrm{msign}(X F^T) F` is the same for every F with :math:`F^T F =
C^{-1}`, so F is the inverse of a Cholesky factor and :math:`D_B = \tilde p^{-1} \hat
M_B T` with an r x r matrix T. Each factor needs six products with tall matrices. Norms
are Rayleigh quotients of powers of Gram matrices, which are too small by at most 0.8 %
at rank 64.

References:
    "PoLoRA", 2026, arXiv:2607.17620, and two independent ports of its code. The code
    initializes p and q with 1e-12 instead of 0.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from ..geometry import (
    cross_gram,
    gram_of,
    inverse_cholesky,
    polar_core,
    spectral_norm_of_gram,
)
from ._gram_frames import SHARE, framed, kept, over, unit
from ._moments import ahead, heavy_ball
from ._two_alike import AlikeFactor, AlikeRule
from .groups import Source
from .pair_optimizer import PairOptimizer
from .rule import Core, FactorBatch, Solver, StateShape

__all__ = ["PoLoRA"]

_SQUARINGS = 8


class PolarFactor(AlikeFactor):
    """Update rule of one factor, its momentum and its weights; A is transposed.

    The momentum is a heavy-ball momentum, which is 1 / (1 - beta) times the running
    average. This makes no difference, because D is divided by its norm.
    """

    moves_state = True

    def look(self, batch: FactorBatch) -> Core:
        """Add the gradient. Return Gram matrices of the factor and its momentum."""
        heavy_ball(batch, f"momentum_{self.role}")
        point, weights = self._tall(batch.point), self._weights(batch)
        force = self._tall(ahead(batch, f"momentum_{self.role}"))
        light = force / weights
        return {
            "size": gram_of(point),
            "metric": cross_gram(point, weights * point),
            "force": cross_gram(force, light),
            "length": gram_of(light),
        }

    def move(self, batch: FactorBatch, core: Core) -> None:
        """Update the factor X <- keep X + M T / weights, then the weights."""
        force = self._tall(ahead(batch, f"momentum_{self.role}"))
        light = force / self._weights(batch)
        moved = core["keep"] * self._tall(batch.point)
        batch.point = self._tall(torch.baddbmm(moved, light, core["turn"]))
        slope = self._tall(batch.grad)
        fresh = ((slope @ core["inverse"]) * slope).mean(-1, keepdim=True)
        # Where the gradients of B and A contradict each other, B's may be 1e20 times A.
        most = 1e-6 * torch.finfo(fresh.dtype).max
        fresh = fresh.nan_to_num(nan=most, posinf=most, neginf=-most).clamp_max(most)
        decay, old = batch.numbers["curvature_decay"], self._state(batch)
        name = f"curvature_{self.role}"
        batch.state[name] = self._tall(decay * old + (1 - decay) * fresh)

    def _state(self, batch: FactorBatch) -> Tensor:
        return self._tall(batch.state[f"curvature_{self.role}"])

    def _weights(self, batch: FactorBatch) -> Tensor:
        """Return p divided by its largest entry, plus delta, ``(K, rows, 1)``."""
        found = self._state(batch)
        most = found.amax(-2, keepdim=True)
        share = torch.where(most > 0, over(found, most), 1.0)
        return share + batch.numbers["curvature_damping"]


def solve(
    up: Core, down: Core, lr: Tensor, numbers: Mapping[str, Tensor]
) -> tuple[Core, Core]:
    """Compute T and C^-1 of both factors from Gram matrices of K pairs of one rank."""
    count, damping = len(lr), numbers["curvature_damping"]
    # B's momentum is divided by A's metric, so A's comes first.
    metric, spread = unit(torch.cat([down["metric"], up["metric"]]))
    norms = spectral_norm_of_gram(
        torch.cat([metric, down["size"], up["size"]]), _SQUARINGS
    )
    largest, norm_down, norm_up = norms.split([2 * count, count, count])
    shift = torch.cat([damping, damping]) * largest.square() + SHARE[metric.dtype]
    frame = inverse_cholesky(metric, shift)
    force, _ = unit(torch.cat([up["force"], down["force"]]))
    turn = frame.mT @ polar_core(framed(frame, force)) @ frame
    length, most = unit(torch.cat([up["length"], down["length"]]))
    reach = spectral_norm_of_gram(turn.mT @ length @ turn, _SQUARINGS) * most.sqrt()
    keep = kept(lr, numbers["weight_decay"])
    rho = over(-lr / keep, norm_down + norm_up)
    turn = over(torch.cat([rho, rho]), reach) * turn
    inverse = over(frame.mT @ frame, spread)
    # B is divided by A's metric and A by B's.
    return tuple(  # pyrefly: ignore
        {"turn": turn[part], "inverse": inverse[part], "keep": keep}
        for part in (slice(None, count), slice(count, None))
    )


class PoLoRARule(AlikeRule):
    """Update rule in the docstring of this module, in two passes."""

    factor = PolarFactor
    own = ("curvature_decay", "curvature_damping")
    of_pair = ("curvature_damping",)

    def choices(self, group: Mapping[str, Any]) -> dict[str, Any]:
        """Return the options that select code: none."""
        return {"nesterov": True}

    def states(self, choices: Mapping[str, Any]) -> dict[str, StateShape]:
        """Return the state shapes: a momentum for each factor, p and q."""
        weights: dict[str, StateShape] = {
            "curvature_up": "rows",
            "curvature_down": "columns",
        }
        return super().states(choices) | weights

    def solver(self, choices: Mapping[str, Any]) -> Solver | None:
        """Return the solver. Each factor needs the metric of the other factor."""
        return solve


class PoLoRA(PairOptimizer):
    """PoLoRA optimizer: orthogonalized updates of A and B with a diagonal curvature.

    LoRA alpha must equal the rank. The optimizer can only check this if it receives the
    model.

    Args:
        params: model, named parameters, or iterable of parameters or parameter groups
            to optimize.
        lr: maximum spectral norm of the update of the product B A, to first order.
        momentum: momentum factor beta of both factors, in [0, 1).
        curvature_decay: beta2, decay rate of the running averages p and q.
        curvature_damping: damping delta. It is added to p and q as a fraction of their
            largest entry, and to the Gram matrices as a fraction of their largest
            eigenvalue.
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

    method = "polora"
    rule = PoLoRARule()

    def __init__(
        self,
        params: Source,
        lr: float | Tensor = 1e-2,
        *,
        momentum: float = 0.9,
        curvature_decay: float = 0.99,
        curvature_damping: float = 1e-4,
        rest_lr_ratio: float = 0.05,
        weight_decay: float = 0.0,
        beta1: float = 0.9,
        beta2: float = 0.999,
        eps: float = 1e-8,
    ) -> None:
        options = {
            "momentum": momentum,
            "curvature_decay": curvature_decay,
            "curvature_damping": curvature_damping,
            "rest_lr_ratio": rest_lr_ratio,
            "weight_decay": weight_decay,
            "beta1": beta1,
            "beta2": beta2,
            "eps": eps,
        }
        super().__init__(params, lr, options)
