r"""Scaled AdamW: Riemannian preconditioning of the factor gradients.

.. math::
    g_B = G_B\,(\hat K_A + \delta I)^{-1}, \qquad g_A = (\hat K_B + \delta I)^{-1} G_A,
    \qquad \hat K = K\,r/\mathrm{tr} K, \quad K_A = A A^T, \quad K_B = B^T B

and AdamW is applied to :math:`(g_B, g_A)`. There are two differences from the reference
code. First, both factors are preconditioned with the old values of A and B, while the
reference code updates A first and uses the new A for B. Second, the Gram matrices are
divided by their mean eigenvalue. Adam is invariant to this scale in the long run.
Without it, the first gradients of A after a start with B = 0 would be multiplied by up
to a million (1/|B|^2) and remain in the second moment for a thousand steps.

References:
    F. Zhang, M. Pilanci, "Riemannian Preconditioned LoRA for Fine-Tuning Foundation
    Models", ICML 2024, arXiv:2402.02347.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from ..methods import decay_of
from ._moments import adamw_moved, moment_states
from .groups import Source
from .pair_optimizer import PairOptimizer
from .rule import ROLES, Core, FactorBatch, FactorRule, Role, Rule, Solver, StateShape

__all__ = ["ScaledAdamW"]


class ScaledUp(FactorRule):
    """Update rule of B: AdamW on the gradient preconditioned by A's Gram matrix."""

    look_changes_state = False
    moves_state = True

    def look(self, batch: FactorBatch) -> Core:
        """Return B^T B."""
        return {"gram": batch.point.mT @ batch.point}

    def move(self, batch: FactorBatch, core: Core) -> None:
        """Apply AdamW to the gradient preconditioned by the Gram matrix of A."""
        batch.point = adamw_moved(batch, "up", batch.grad @ core["over"])


class ScaledDown(FactorRule):
    """Update rule of A: AdamW on the gradient preconditioned by B's Gram matrix."""

    look_changes_state = False
    moves_state = True

    def look(self, batch: FactorBatch) -> Core:
        """Return A A^T."""
        return {"gram": batch.point @ batch.point.mT}

    def move(self, batch: FactorBatch, core: Core) -> None:
        """Apply AdamW to the gradient preconditioned by the Gram matrix of B."""
        batch.point = adamw_moved(batch, "down", core["over"] @ batch.grad)


class ScaledAdamWRule(Rule):
    """Update rule in the docstring of this module, in two passes."""

    counts_steps = True

    _rules: Mapping[Role, FactorRule] = {"up": ScaledUp(), "down": ScaledDown()}

    def numbers(self, group: Mapping[str, Any]) -> dict[str, float]:
        """Return damping, beta1, beta2, eps and the weight decay of each factor."""
        names = ("damping", "beta1", "beta2", "eps")
        decays = {f"weight_decay_{role}": decay_of(role, group) for role in ROLES}
        return {name: group[name] for name in names} | decays

    def joint_numbers(self, choices: Mapping[str, Any]) -> tuple[str, ...]:
        """Return the names of the numeric options of the solver."""
        decays = (f"weight_decay_{role}" for role in ROLES)
        return ("damping", "beta1", "beta2", "eps", *decays)

    def states(self, choices: Mapping[str, Any]) -> dict[str, StateShape]:
        """Return the state shapes: two moments for each factor."""
        return moment_states("adam", {"up": "up", "down": "down"})

    def factor_rules(self, choices: Mapping[str, Any]) -> Mapping[Role, FactorRule]:
        """Return the rules of B and A."""
        return self._rules

    def solver(self, choices: Mapping[str, Any]) -> Solver | None:
        """Return the solver. Each factor needs the Gram matrix of the other factor."""
        return _solve


def _solve(
    up: Core, down: Core, lr: Tensor, numbers: dict[str, Tensor]
) -> tuple[Core, Core]:
    grams = torch.cat([up["gram"], down["gram"]])
    over = _damped_inverse(grams, torch.cat([numbers["damping"]] * 2))
    over_b, over_a = over.chunk(2)
    return {"over": over_a}, {"over": over_b}


def _damped_inverse(gram: Tensor, damping: Tensor) -> Tensor:
    """Return (K r / tr K + delta I)^-1. K = 0 is replaced by I."""
    mean = gram.diagonal(dim1=-2, dim2=-1).mean(-1)[..., None, None]
    identity = torch.eye(gram.shape[-1], dtype=gram.dtype, device=gram.device)
    empty = mean <= torch.finfo(gram.dtype).tiny
    unit = torch.where(empty, identity, gram / mean.masked_fill(empty, 1.0))
    # The unchecked form: a check would synchronize, and delta > 0 makes the matrix
    # positive definite.
    factor, _ = torch.linalg.cholesky_ex(unit + damping * identity)
    return torch.cholesky_inverse(factor)


class ScaledAdamW(PairOptimizer):
    """AdamW on gradients preconditioned by the Gram matrix of the other factor.

    Args:
        params: model, named parameters, or iterable of parameters or parameter groups
            to optimize.
        lr: learning rate in the unit of AdamW.
        damping: damping of the Gram matrices before inversion, as a fraction of their
            mean eigenvalue.
        weight_decay: decoupled weight decay of both factors, multiplied by lr.
        weight_decay_b: weight decay of B. The default is weight_decay.
        weight_decay_a: weight decay of A. The default is weight_decay.
        beta1: decay rate of the running average of the gradient.
        beta2: decay rate of the running average of the squared gradient.
        eps: term that is added to the square root of the second moment for numerical
            stability.

    Raises:
        OptionError: If an option is out of bounds.
        PairingError: If parameters cannot be assigned to A and B unambiguously.
    """

    method = "scaled_adamw"
    rule = ScaledAdamWRule()

    def __init__(
        self,
        params: Source,
        lr: float | Tensor = 1e-4,
        *,
        damping: float = 1e-2,
        weight_decay: float = 0.0,
        weight_decay_b: float | None = None,
        weight_decay_a: float | None = None,
        beta1: float = 0.9,
        beta2: float = 0.999,
        eps: float = 1e-8,
    ) -> None:
        options = {
            "damping": damping,
            "weight_decay": weight_decay,
            "weight_decay_b": weight_decay_b,
            "weight_decay_a": weight_decay_a,
            "beta1": beta1,
            "beta2": beta2,
            "eps": eps,
        }
        super().__init__(params, lr, options)
