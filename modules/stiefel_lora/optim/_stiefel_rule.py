r"""Stiefel-LoRA: B on the Stiefel manifold, A free.

:math:`\Delta W = B A` with :math:`B^T B = I`, so that
:math:`\sigma_i(BA) = \sigma_i(A)`: B holds directions, A holds size. One step, with
:math:`\Pi_B(Z) = Z - B\,\mathrm{sym}(B^T Z)` the tangent projection, angle
:math:`\theta =` ``angle_per_lr`` x ``lr`` and momentum :math:`\mu`:

.. math::
    M &\leftarrow \Pi_B(\mu M + G_B) \\
    \xi &= M, \quad \text{Nesterov: } \xi = \Pi_B(G_B + \mu M) \\
    \text{momentum:}\quad \xi &\leftarrow \theta\sqrt r\;\xi / \|\xi\|_F \\
    \text{spectral:}\quad \xi &\leftarrow \theta\;\Pi_B(\mathrm{msign}(\xi)) \\
    B &\leftarrow (B-\xi)\,[(B-\xi)^T(B-\xi)]^{-1/2}

The projection carries the old momentum into the present tangent space. ``momentum``
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

from torch import Tensor

from ._stiefel_down import MuonDown, SignDown
from ._stiefel_up import TurnUp
from .factor_rule import Core, FactorRule, Solver
from .rule import Role, Rule, StateShape
from .stiefel_product import ProductDown, ProductUp, solve_product

__all__ = ["StiefelRule"]

# Per A-rule: radians of B per unit of lr, and the AdamW rate of what has no pair as a
# multiple of lr. sign with 0.2 x lr has AdamW's scale; muon's lr is a spectral norm,
# some twenty times what AdamW takes.
ANGLE_PER_LR = {"muon": 0.5, "adamw": 2.0, "sign": 7.0}
REST_LR_RATIO = {"muon": 0.05, "adamw": 1.0, "sign": 1.0}

_CHOICES = (
    "step",
    "b_rule",
    "b_length",
    "retraction",
    "transport",
    "a_rule",
    "nesterov",
    "decay_rule",
)
_TURN_UP = TurnUp()
_PRODUCT: dict[Role, FactorRule] = {"up": ProductUp(), "down": ProductDown()}
_DOWN: dict[str, FactorRule] = {"muon": MuonDown(), "sign": SignDown()}


class StiefelRule(Rule):
    """The update in the module's docstring, factor by factor."""

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

    def joint_numbers(self, choices: Mapping[str, Any]) -> tuple[str, ...]:
        """Numbers of the step of the product."""
        joint = ("lr", "weight_decay")
        return joint if choices["step"] == "product" else ()

    def states(self, choices: Mapping[str, Any]) -> dict[str, StateShape]:
        """One momentum for B, one for A unless AdamW holds A's."""
        if choices["a_rule"] == "adamw" and choices["step"] == "factors":
            return {"momentum_up": "up"}
        return {"momentum_up": "up", "momentum_down": "down"}

    def adamw_roles(self, group: Mapping[str, Any]) -> dict[Role, float]:
        """A takes torch's AdamW under that rule."""
        alone = group["a_rule"] == "adamw" and group["step"] == "factors"
        return {"down": 1.0} if alone else {}

    def rest_lr_ratio(self, group: Mapping[str, Any]) -> float:
        """AdamW's share of lr."""
        ratio = group["rest_lr_ratio"]
        return REST_LR_RATIO[group["a_rule"]] if ratio is None else ratio

    def factor_rules(self, choices: Mapping[str, Any]) -> dict[Role, FactorRule]:
        """The passes of the product, or B's turn and A's move unless AdamW makes it."""
        if choices["step"] == "product":
            return _PRODUCT
        if choices["a_rule"] == "adamw":
            return {"up": _TURN_UP}
        return {"up": _TURN_UP, "down": _DOWN[choices["a_rule"]]}

    def solver(self, choices: Mapping[str, Any]) -> Solver | None:
        """The step of the product needs both factors."""
        return _solve if choices["step"] == "product" else None


def _solve(
    up: Core, down: Core, lr: Tensor, numbers: dict[str, Tensor]
) -> tuple[Core, Core]:
    return solve_product(up, down, lr, numbers["weight_decay"])


def _schedule(group: Mapping[str, Any]) -> float:
    """Present share of the initial rate; 1 where no scheduler has noted it.

    Only "over_rank" reads it, and reading a rate on the GPU waits for the GPU.
    """
    if group["decay_rule"] != "over_rank":
        return 1.0
    initial = group.get("initial_lr", group["lr"])
    return float(group["lr"]) / float(initial) if float(initial) else 0.0
