"""What a method is to the engine: batched mathematics on stacked pairs.

A rule knows nothing of modules, devices, groups or checkpoints. The engine stacks
pairs of one shape, calls :meth:`Rule.update` and writes the result back. A method whose
factors move independently gives two factor rules instead.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any, Literal

from torch import Tensor

from ..methods import Option
from .factor_rule import FactorRule, Solver

__all__ = ["ROLES", "PairBatch", "Role", "Rule", "StateShape", "keeps_orthonormal"]

Role = Literal["up", "down"]
ROLES: tuple[Role, Role] = ("up", "down")
StateShape = Literal["up", "down", "core", "scalar", "rows", "columns"]


@dataclasses.dataclass
class PairBatch:
    """K stacked pairs of one shape; a rule replaces factors and state by new tensors.

    It never writes into the ones that it was given: pairs that cannot take the step get
    those back.

    Attributes:
        up: B, ``(K, out, r)``.
        down: A, ``(K, r, in)``.
        grad_up, grad_down: gradients, same shapes, in the dtype of the factors.
        state: name -> ``(K, *shape)``; zeros at a pair's first step.
        lr_up, lr_down: learning rates, ``(K, 1, 1)`` (LoRA+ and block rates differ).
        step: number of this step of each pair, from 1, ``(K, 1, 1)``.
        numbers: numeric options, ``(K, 1, 1)`` each.
        choices: options that are the same for all K pairs.
        names: names of the K pairs, for seeds.
        width: median of all layer sides (in and out) that the optimizer trains.
        joint: sum of :meth:`Rule.measure` over all pairs of this step, ``(1, 1, 1)``;
            0 for rules that measure nothing.
        usable: which pairs take the step, bool ``(K, 1, 1)``; the others show a rule
            zeros. None: all of them.
        kept: the engine's: factors as they are, where the rule is shown others.
    """

    up: Tensor
    down: Tensor
    grad_up: Tensor
    grad_down: Tensor
    state: dict[str, Tensor]
    lr_up: Tensor
    lr_down: Tensor
    step: Tensor
    numbers: dict[str, Tensor]
    choices: dict[str, Any]
    names: list[str]
    width: float
    joint: Tensor
    usable: Tensor | None = None
    kept: dict[str, Tensor] = dataclasses.field(default_factory=dict)


class Rule:
    """The mathematics of one method; the defaults suit free factors.

    A rule is complete with :meth:`update` (and :meth:`states` where it keeps any).
    ``beta1``, ``beta2``, ``eps`` and ``weight_decay`` of parameters outside pairs are
    Adam's usual ones unless the method has options of these names.
    """

    options: tuple[Option, ...] = ()
    """The method's options, where ``register`` made the record."""

    orthonormal_up: bool = False
    """Whether B must have orthonormal columns before the first update."""

    factorizes: bool = False
    """Whether factors or gradients go through LAPACK, which raises at NaN."""

    gauge_free: frozenset[str] = frozenset()
    """States that keep their meaning when the factors change coordinates."""

    def choices(self, group: Mapping[str, Any]) -> dict[str, Any]:
        """Options that select code; pairs are batched by them.

        By default those of :attr:`options` that are no numbers, or may be empty.
        """
        return {o.name: group[o.name] for o in self.options if not _is_number(o)}

    def numbers(self, group: Mapping[str, Any]) -> dict[str, float]:
        """Numeric options of a parameter group, with documented defaults filled in.

        By default those of :attr:`options` that always have a value.
        """
        return {o.name: group[o.name] for o in self.options if _is_number(o)}

    def states(self, choices: Mapping[str, Any]) -> dict[str, StateShape]:
        """Name -> shape of each state tensor.

        ``"up"`` and ``"down"`` are like B and A, ``"core"`` is r x r, ``"scalar"``
        1 x 1, ``"rows"`` a column with one number a row of B, ``"columns"`` a row with
        one number a column of A. In passes over single factors, A has those of
        ``"down"`` and ``"columns"``, B all others.
        """
        return {}

    def adamw_roles(self, group: Mapping[str, Any]) -> dict[Role, float]:
        """Factors that take torch's AdamW -> their rate as a multiple of the group's.

        Where both are named, :meth:`update` is not called.
        """
        return {}

    def factor_rules(self, choices: Mapping[str, Any]) -> Mapping[Role, FactorRule]:
        """How each factor moves that the rule moves on its own.

        A method has these or :meth:`update`.
        """
        return {}

    def solver(self, choices: Mapping[str, Any]) -> Solver | None:
        """The work between the two passes where B and A move together.

        None where the factors are separable: each moves as soon as its gradient is
        there. Otherwise both must have a factor rule.
        """
        return None

    def joint_numbers(self, choices: Mapping[str, Any]) -> tuple[str, ...]:
        """Numbers of which a pair has one, that of the group of B.

        A learning rate among them is the geometric mean where there is a solver.
        """
        return ()

    def rest_lr_ratio(self, group: Mapping[str, Any]) -> float:
        """Learning rate of what has no pair, as a multiple of the group's."""
        return 1.0

    def prepare(self, batch: PairBatch) -> Tensor | None:
        """Settle pairs before their first step and after every load, in place.

        Factors, gradients and state may change; a pair that is in order keeps its
        bits, so that a resume is exact.

        Returns:
            Which pairs may step now, bool ``(K,)``; None stands for all of them.
        """
        return None

    def measures(self, group: Mapping[str, Any]) -> bool:
        """Whether :meth:`measure` is wanted before the updates."""
        return False

    def measure(self, batch: PairBatch) -> Tensor:
        """A number of each pair, ``(K, 1, 1)``, that is summed over all pairs."""
        raise NotImplementedError

    def update(self, batch: PairBatch) -> None:
        """Take one step on stacked pairs; factors and state of the batch change."""
        raise NotImplementedError


def _is_number(option: Option) -> bool:
    return option.type in (int, float) and not option.choices and not option.optional


def keeps_orthonormal(optimizer: object) -> bool:
    """Whether an optimizer, ours or not, or its class, holds B orthonormal."""
    rule = getattr(optimizer, "rule", None)
    return bool(getattr(rule, "orthonormal_up", False))
