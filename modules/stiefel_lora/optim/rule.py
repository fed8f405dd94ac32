"""The contract of a method: batched mathematics on stacked pairs.

A rule has no part in modules, devices, groups or checkpoints. The optimizer
(:class:`~stiefel_lora.optim.pair_optimizer.PairOptimizer`) stacks pairs of one shape,
calls the rule and writes the result back. A method has one of two forms:

- :meth:`Rule.update` steps K pairs of one shape at once (:class:`PairBatch`);
- :meth:`Rule.factor_rules` give each factor two passes (:class:`FactorRule`), with
  r x r work for all layers between them. The first pass over the tall matrices leaves
  r x r ones; those of all layers are worked on in one stack, since many small launches
  are what a step on a GPU consists of; the second pass moves the factors. Between the
  passes nothing tall is held. In a separable method neither factor depends on the
  other; elsewhere :meth:`Rule.solver` sees the r x r matrices of both.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping
from typing import Any, Literal, TypedDict

from torch import Tensor

from ..methods import Option, adam_options

__all__ = [
    "ROLES",
    "AdamWOptions",
    "Core",
    "FactorBatch",
    "FactorRule",
    "Number",
    "PairBatch",
    "Role",
    "Rule",
    "Solver",
    "StateShape",
    "keeps_orthonormal",
]

Role = Literal["up", "down"]
ROLES: tuple[Role, Role] = ("up", "down")
StateShape = Literal["up", "down", "core", "scalar", "rows", "columns"]

Number = float | Tensor
"""One value for a whole batch, or ``(K, 1, 1)`` where its pairs differ."""

Core = dict[str, Tensor]
"""Results of the first pass, each with K as its first axis."""

Solver = Callable[[Core, Core, Tensor, dict[str, Tensor]], tuple[Core, Core]]
"""Matrices of both first passes (B's, A's), the learning rate of the product and the
numeric options, ``(K, 1, 1)`` each -> what the second passes are given."""


class AdamWOptions(TypedDict):
    """Options of torch's AdamW beside the learning rate."""

    beta1: float
    beta2: float
    eps: float
    weight_decay: float


_USUAL = {option.name: option.default for option in adam_options()}


class Rule:
    """The mathematics of one method; the defaults suit free factors.

    A rule is complete with :meth:`update` (and :meth:`states` where it keeps any).
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

    def adamw_options(self, group: Mapping[str, Any]) -> AdamWOptions:
        """Options of torch's AdamW on all that the method leaves to it.

        That is factors of :meth:`adamw_roles`, and parameters outside pairs. By default
        the method's own options of these names; where it has none, Adam's usual values
        and no decay.
        """
        return {
            "beta1": group.get("beta1", _USUAL["beta1"]),
            "beta2": group.get("beta2", _USUAL["beta2"]),
            "eps": group.get("eps", _USUAL["eps"]),
            "weight_decay": group.get("weight_decay", 0.0),
        }

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


@dataclasses.dataclass
class FactorBatch:
    """K stacked factors of one role and shape; a rule replaces them by new tensors.

    Attributes:
        point: B as ``(K, out, r)``, or A as ``(K, r, in)``.
        grad: gradient, same shape; a rule leaves it as it is.
        state: name -> ``(K, ...)`` of the shape that the rule's ``states`` names, zeros
            at a factor's first step.
        lr: learning rates.
        numbers: numeric options.
        choices: options that are the same for all K factors.
    """

    point: Tensor
    grad: Tensor
    state: dict[str, Tensor]
    lr: Number
    numbers: dict[str, Number]
    choices: dict[str, Any]

    def release(self) -> None:
        """Give back the room of gradient and state in the second pass."""
        self.grad, self.state = self.point.new_empty(0), {}


class FactorRule:
    """The mathematics of one factor."""

    looks: bool = True
    """Whether there is a first pass; without one, :meth:`move` updates the state."""

    moves_state: bool = False
    """Whether :meth:`move` changes the state again."""

    def look(self, batch: FactorBatch) -> Core:
        """First pass: update the state and return r x r matrices.

        The engine replaces ``"gram"``, K of
        :func:`~stiefel_lora.geometry.roots.polar_core`, by ``"polar"``, its result.
        """
        raise NotImplementedError

    def move(self, batch: FactorBatch, core: Core) -> None:
        """Second pass: overwrite the point; ``state`` is as the first pass left it.

        ``core`` holds what the first pass returned, or what the solver made of it.
        """
        raise NotImplementedError


def _is_number(option: Option) -> bool:
    return option.type in (int, float) and not option.choices and not option.optional


def keeps_orthonormal(optimizer: object) -> bool:
    """Whether an optimizer, ours or not, or its class, holds B orthonormal."""
    rule = getattr(optimizer, "rule", None)
    return bool(getattr(rule, "orthonormal_up", False))
