"""Base classes of methods that use the same rule with a momentum for A and B.

The learning rate of these methods is the spectral norm of the update of B A.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, ClassVar

from torch import Tensor

from .rule import ROLES, FactorRule, Role, Rule, StateShape

__all__ = ["AlikeFactor", "AlikeRule"]


class AlikeFactor(FactorRule):
    """Rule of one factor. A is transposed, so that the same code handles A and B."""

    def __init__(self, role: Role) -> None:
        self.role = role

    def _tall(self, matrix: Tensor) -> Tensor:
        """Transpose A to the orientation of B, or back. B is returned unchanged."""
        return matrix if self.role == "up" else matrix.mT


class AlikeRule(Rule):
    """Rule that uses one class for both factors. Subclasses define the solver."""

    factor: ClassVar[Callable[[Role], FactorRule]]
    """Factor rule that is used for A and B."""

    own: ClassVar[tuple[str, ...]]
    """Names of numeric options of the method, besides momentum and weight decay."""

    of_pair: ClassVar[tuple[str, ...]]
    """Names of the options in :attr:`own` that the solver uses."""

    def __init__(self) -> None:
        self._rules = {role: type(self).factor(role) for role in ROLES}

    def choices(self, group: Mapping[str, Any]) -> dict[str, Any]:
        """Return the options that select code: none."""
        return {}

    def numbers(self, group: Mapping[str, Any]) -> dict[str, float]:
        """Return momentum, weight decay and the options in :attr:`own`."""
        return {name: group[name] for name in ("momentum", *self.own, "weight_decay")}

    def joint_numbers(self, choices: Mapping[str, Any]) -> tuple[str, ...]:
        """Return the names of the numeric options of the solver."""
        return ("lr", *self.of_pair, "weight_decay")

    def states(self, choices: Mapping[str, Any]) -> dict[str, StateShape]:
        """Return the state shapes: a momentum for each factor."""
        return {"momentum_up": "up", "momentum_down": "down"}

    def rest_lr_ratio(self, group: Mapping[str, Any]) -> float:
        """Return the AdamW learning rate of other parameters as a multiple of lr."""
        return group["rest_lr_ratio"]

    def factor_rules(self, choices: Mapping[str, Any]) -> Mapping[Role, FactorRule]:
        """Return the same rule for both factors."""
        return self._rules
