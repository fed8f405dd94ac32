"""Two factors that move alike: a momentum each, and one step of the product.

The base of methods whose learning rate is a spectral norm of the product's step.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, ClassVar

from torch import Tensor

from .rule import ROLES, FactorRule, Role, Rule, StateShape

__all__ = ["AlikeFactor", "AlikeRule"]


class AlikeFactor(FactorRule):
    """One factor. A can be written as B by transposing it."""

    def __init__(self, role: Role) -> None:
        self.role = role

    def _tall(self, matrix: Tensor) -> Tensor:
        """Transpose A to the orientation of B, and back."""
        return matrix if self.role == "up" else matrix.mT


class AlikeRule(Rule):
    """Both factors move by one class, in two passes; a subclass adds the solver."""

    factor: ClassVar[Callable[[Role], FactorRule]]
    """The class of both factors."""

    own: ClassVar[tuple[str, ...]]
    """Numeric options beside momentum and weight decay."""

    of_pair: ClassVar[tuple[str, ...]]
    """Those of :attr:`own` that the step of the product reads."""

    def __init__(self) -> None:
        self._rules = {role: type(self).factor(role) for role in ROLES}

    def choices(self, group: Mapping[str, Any]) -> dict[str, Any]:
        """No option selects code."""
        return {}

    def numbers(self, group: Mapping[str, Any]) -> dict[str, float]:
        """Momentum, the method's own numbers and weight decay."""
        return {name: group[name] for name in ("momentum", *self.own, "weight_decay")}

    def joint_numbers(self, choices: Mapping[str, Any]) -> tuple[str, ...]:
        """Return the numbers of the step of the product."""
        return ("lr", *self.of_pair, "weight_decay")

    def states(self, choices: Mapping[str, Any]) -> dict[str, StateShape]:
        """Return one momentum a factor."""
        return {"momentum_up": "up", "momentum_down": "down"}

    def rest_lr_ratio(self, group: Mapping[str, Any]) -> float:
        """Return AdamW's share of lr, which is a spectral norm here."""
        return group["rest_lr_ratio"]

    def factor_rules(self, choices: Mapping[str, Any]) -> Mapping[Role, FactorRule]:
        """Return the same rule for both factors."""
        return self._rules
