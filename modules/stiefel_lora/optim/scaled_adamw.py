r"""Scaled AdamW: Riemannian preconditioning of the factor gradients.

.. math::
    g_B = G_B\,(\hat K_A + \delta I)^{-1}, \qquad g_A = (\hat K_B + \delta I)^{-1} G_A,
    \qquad \hat K = K\,r/\mathrm{tr} K, \quad K_A = A A^T, \quad K_B = B^T B

and AdamW on :math:`(g_B, g_A)`. There are two differences from the reference code. Both
gradients are evaluated at the old pair (there, A moves first and B sees the new A). The
Gram matrices are divided by their mean eigenvalue, a scalar to which Adam's ratio is
invariant in the long run: without it, the first gradients of A after B = 0 are
magnified by 1/|B|^2, up to a million, and stay in the second moment for a thousand
steps.

References:
    F. Zhang, M. Pilanci, "Riemannian Preconditioned LoRA for Fine-Tuning Foundation
    Models", ICML 2024, arXiv:2402.02347.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from ._moments import adamw_moved, moment_states
from .groups import Source
from .pair_optimizer import PairOptimizer
from .rule import Core, FactorBatch, FactorRule, Role, Rule, Solver, StateShape

__all__ = ["ScaledAdamW"]


class ScaledUp(FactorRule):
    """B: its Gram matrix, then AdamW on its gradient over A's."""

    look_changes_state = False
    moves_state = True

    def look(self, batch: FactorBatch) -> Core:
        """Return B^T B."""
        return {"gram": batch.point.mT @ batch.point}

    def move(self, batch: FactorBatch, core: Core) -> None:
        """AdamW on the gradient over A's Gram matrix."""
        batch.point = adamw_moved(batch, "up", batch.grad @ core["over"])


class ScaledDown(FactorRule):
    """A, likewise."""

    look_changes_state = False
    moves_state = True

    def look(self, batch: FactorBatch) -> Core:
        """Return A A^T."""
        return {"gram": batch.point @ batch.point.mT}

    def move(self, batch: FactorBatch, core: Core) -> None:
        """AdamW on the gradient over B's Gram matrix."""
        batch.point = adamw_moved(batch, "down", core["over"] @ batch.grad)


class ScaledAdamWRule(Rule):
    """The update in the module's docstring, in two passes."""

    counts_steps = True

    _rules: Mapping[Role, FactorRule] = {"up": ScaledUp(), "down": ScaledDown()}

    def numbers(self, group: Mapping[str, Any]) -> dict[str, float]:
        """Damping, moments' decay and weight decay."""
        names = ("damping", "beta1", "beta2", "eps", "weight_decay")
        return {name: group[name] for name in names}

    def joint_numbers(self, choices: Mapping[str, Any]) -> tuple[str, ...]:
        """Numbers of the pair. Each factor has its own learning rate."""
        return ("damping", "beta1", "beta2", "eps", "weight_decay")

    def states(self, choices: Mapping[str, Any]) -> dict[str, StateShape]:
        """Adam's two moments of each factor."""
        return moment_states("adam", {"up": "up", "down": "down"})

    def factor_rules(self, choices: Mapping[str, Any]) -> Mapping[Role, FactorRule]:
        """The passes of B and of A."""
        return self._rules

    def solver(self, choices: Mapping[str, Any]) -> Solver | None:
        """Each gradient is divided by the other factor's Gram matrix."""
        return _solve


def _solve(
    up: Core, down: Core, lr: Tensor, numbers: dict[str, Tensor]
) -> tuple[Core, Core]:
    grams = torch.cat([up["gram"], down["gram"]])
    over = _damped_inverse(grams, torch.cat([numbers["damping"]] * 2))
    over_b, over_a = over.chunk(2)
    return {"over": over_a}, {"over": over_b}


def _damped_inverse(gram: Tensor, damping: Tensor) -> Tensor:
    """(K r / tr K + delta I)^-1. K = 0 counts as K = I."""
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
        damping: fraction of the mean Gram eigenvalue that is added before inversion.
        weight_decay: decoupled decay of both factors (times lr).
        beta1: decay rate of the running average of the gradient.
        beta2: decay rate of the running average of the squared gradient.
        eps: term that is added to the square root of the second moment for numerical
            stability.

    Raises:
        OptionError: If an option is out of bounds.
        PairingError: If the roles of parameters are ambiguous.
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
        beta1: float = 0.9,
        beta2: float = 0.999,
        eps: float = 1e-8,
    ) -> None:
        options = {
            "damping": damping,
            "weight_decay": weight_decay,
            "beta1": beta1,
            "beta2": beta2,
            "eps": eps,
        }
        super().__init__(params, lr, options)
