"""Base classes of update rules, which work on batches of stacked pairs.

A rule does not handle modules, devices, parameter groups or checkpoints. The optimizer
(:class:`~stiefel_lora.optim.pair_optimizer.PairOptimizer`) stacks pairs of one shape,
calls the rule and writes the result back. A rule has one of two forms:

- :meth:`Rule.update` steps K pairs of one shape at once (:class:`PairBatch`); -
:meth:`Rule.factor_rules` splits the step of each factor into two passes
(:class:`FactorRule`). The first pass reduces the tall matrices to r x r ones. Those of
all layers are processed in one stack, since the cost of a step on a GPU is dominated by
many small kernel launches; the second pass moves the factors. No tall matrix is kept
between the passes. In a separable method the factors do not depend on each other.
Otherwise :meth:`Rule.solver` gets the r x r matrices of both.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import Any, Literal, NamedTuple, TypedDict

from torch import Tensor

from ..methods import Option, adam_options, decay_of

__all__ = [
    "ROLES",
    "AdamWOptions",
    "Core",
    "FactorBatch",
    "FactorRule",
    "HeldFactor",
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
"""A number for the whole batch, or a tensor ``(K, 1, 1)`` with one number per pair."""

Core = dict[str, Tensor]
"""Results of the first pass by name. The size of the first axis is K."""

Solver = Callable[[Core, Core, Tensor, dict[str, Tensor]], tuple[Core, Core]]
"""Function that is called between the two passes.

Its arguments are the results of the first pass of B and of A, the learning rate of the
product, and the numeric options, ``(K, 1, 1)`` each (including ``"step"`` if the rule
counts steps). It returns the inputs of the second pass of B and of A.
"""


class AdamWOptions(TypedDict):
    """Options of torch's AdamW except for the learning rate."""

    beta1: float
    beta2: float
    eps: float
    weight_decay: float


_USUAL = {option.name: option.default for option in adam_options()}


class Rule:
    """Base class for update rules.

    A subclass must define :meth:`update` or :meth:`factor_rules`, and :meth:`states` if
    it has state.
    """

    options: tuple[Option, ...] = ()
    """Options of the method, if ``register`` created its record."""

    orthonormal_up: bool = False
    """Whether B must have orthonormal columns before the first update."""

    factorizes: bool = False
    """Whether the rule uses LAPACK functions, which raise an error on NaN."""

    counts_steps: bool = False
    """Whether the factor rules need the step number of a pair."""

    gauge_free: frozenset[str] = frozenset()
    """Names of states that are not transformed if B is orthonormalized."""

    scale_powers: Mapping[str, int] = MappingProxyType({})
    """Powers of c by which states are multiplied if A is multiplied by c.

    Only used if B is orthonormal. Other states do not change."""

    def choices(self, group: Mapping[str, Any]) -> dict[str, Any]:
        """Return the options that select code. Pairs in a batch have the same values.

        By default, these are the :attr:`options` that are not numbers or may be None.
        """
        return {o.name: group[o.name] for o in self.options if not _is_number(o)}

    def numbers(self, group: Mapping[str, Any]) -> dict[str, float]:
        """Return the numeric options of a parameter group, including defaults.

        By default, these are the numeric :attr:`options` that are never None.
        """
        return {o.name: group[o.name] for o in self.options if _is_number(o)}

    def states(self, choices: Mapping[str, Any]) -> dict[str, StateShape]:
        """Return the shape of each state tensor by name.

        ``"up"`` and ``"down"`` have the shape of B and A, ``"core"`` is r x r,
        ``"scalar"`` is 1 x 1, ``"rows"`` is a column with one number per row of B,
        ``"columns"`` is a row with one number per column of A. With factor rules, the
        states ``"down"`` and ``"columns"`` belong to A, all others to B.
        """
        return {}

    def adopt(self, up: HeldFactor, down: HeldFactor) -> None:
        """Convert the state that an older version saved for a pair, in place.

        Called after loading a state, before :meth:`prepare`.
        """

    def adamw_roles(self, group: Mapping[str, Any]) -> dict[Role, float]:
        """Return the factors that AdamW trains, with their learning rate multiples.

        If both factors are returned, :meth:`update` is not called.
        """
        return {}

    def factor_rules(self, choices: Mapping[str, Any]) -> Mapping[Role, FactorRule]:
        """Return the rules of the factors that are updated separately.

        A rule defines either this method or :meth:`update`.
        """
        return {}

    def solver(self, choices: Mapping[str, Any]) -> Solver | None:
        """Return the solver between the two passes, if B and A are updated jointly.

        None if the factors are updated independently. Otherwise, both factors must have
        a factor rule.
        """
        return None

    def joint_numbers(self, choices: Mapping[str, Any]) -> tuple[str, ...]:
        """Return the names of the numeric options of the solver.

        Their values are taken from the parameter group of B. Learning rates are
        geometric means of those of A and B.
        """
        return ()

    def adamw_options(self, group: Mapping[str, Any]) -> AdamWOptions:
        """Return the AdamW options for all parameters that the rule does not update.

        These are the factors of :meth:`adamw_roles` and the parameters outside pairs.
        By default, the options of the method with these names are used. If it has none,
        these are the defaults of Adam without weight decay.
        """
        return {
            "beta1": group.get("beta1", _USUAL["beta1"]),
            "beta2": group.get("beta2", _USUAL["beta2"]),
            "eps": group.get("eps", _USUAL["eps"]),
            "weight_decay": group.get("weight_decay", 0.0),
        }

    def decay(self, group: Mapping[str, Any], role: Role | None) -> float:
        """Return the weight decay of what AdamW trains: a factor, or None for the rest.

        By default, this is the one of :meth:`adamw_options`, unless the method has
        options for the weight decay of B and of A.
        """
        options = {**group, "weight_decay": self.adamw_options(group)["weight_decay"]}
        return decay_of(role, options)

    def rest_lr_ratio(self, group: Mapping[str, Any]) -> float:
        """Return the AdamW learning rate of other parameters as a multiple of lr."""
        return 1.0

    def prepare(self, batch: PairBatch) -> Tensor | None:
        """Prepare pairs in place before their first step and after loading a state.

        Factors, gradients and state may change. A pair that needs no change must stay
        bitwise identical, so that resuming is exact.

        Returns:
            Mask of the pairs that can be updated in this step, bool ``(K,)``. None
            means all of them.
        """
        return None

    def measures(self, group: Mapping[str, Any]) -> bool:
        """Return whether :meth:`measure` must run before the updates."""
        return False

    def measure(self, batch: PairBatch) -> Tensor:
        """Return a number per pair, ``(K, 1, 1)``. The sum is passed as ``joint``."""
        raise NotImplementedError

    def measure_seen(self, up: Core, down: Core, numbers: dict[str, Tensor]) -> Tensor:
        """Return the number of :meth:`measure` from the results of both first passes.

        Entries that this method adds to the results are passed to the solver. The sum
        over all pairs is passed as the number ``"joint"``, ``(1, 1, 1)``.
        """
        raise NotImplementedError

    def update(self, batch: PairBatch) -> None:
        """Update the factors and the state of a batch of stacked pairs."""
        raise NotImplementedError


class HeldFactor(NamedTuple):
    """One factor, ``(out, r)`` or ``(r, in)``, and its state."""

    value: Tensor
    state: dict[str, Any]


@dataclasses.dataclass
class PairBatch:
    """Batch of K stacked pairs of one shape.

    A rule assigns new tensors to the attributes. It must not modify the given tensors
    in place, because they are restored for pairs that skip the step.

    Attributes:
        up: B, ``(K, out, r)``.
        down: A, ``(K, r, in)``.
        grad_up, grad_down: gradients, same shapes, in the dtype of the factors.
        state: name -> ``(K, *shape)``; zeros at a pair's first step.
        lr_up, lr_down: learning rates of B and A, ``(K, 1, 1)``.
        step: 1-based number of this step for each pair, ``(K, 1, 1)``.
        numbers: numeric options, ``(K, 1, 1)`` each.
        choices: options that are the same for all K pairs.
        names: names of the K pairs.
        width: median number of inputs and outputs of all trained layers.
        joint: sum of :meth:`Rule.measure` over all pairs of this step, ``(1, 1, 1)``,
            or 0 if the rule does not define it.
        usable: mask of the pairs that are updated, bool ``(K, 1, 1)``. For the others,
            the tensors are replaced by zeros. None means all of them.
        kept: original factors, if they were replaced by zeros. For internal use.
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
    """Batch of K stacked factors of one role (A or B) and shape.

    Attributes:
        point: B as ``(K, out, r)``, or A as ``(K, r, in)``.
        grad: gradient, same shape. It must not be modified.
        state: states by name, ``(K, ...)``, with the shapes of :meth:`Rule.states`.
            They are zero at the first step of a factor.
        lr: learning rates.
        numbers: numeric options.
        choices: options that are the same for all K factors.
        step: 1-based number of this step, if the rule counts steps.
        bias: Adam's bias corrections 1 - beta^step by name of the option, where they
            are computed for all factors at once.
        width: median number of inputs and outputs of all trained layers, if both
            factors of a pair are updated together.
        writable: whether a rule may modify ``point`` and ``state`` in place. If False,
            the old values are needed for factors that skip the step.
    """

    point: Tensor
    grad: Tensor
    state: dict[str, Tensor]
    lr: Number
    numbers: dict[str, Number]
    choices: dict[str, Any]
    step: Number = 0.0
    bias: Mapping[str, Number] = dataclasses.field(default_factory=dict)
    width: float = 0.0
    writable: bool = False

    def release(self) -> None:
        """Free the memory of gradient and state after the second pass."""
        self.grad, self.state = self.point.new_empty(0), {}


class FactorRule:
    """Update rule of one factor, in two passes."""

    has_look: bool = True
    """Whether there is a first pass. If not, :meth:`move` updates the state."""

    look_changes_state: bool = True
    """Whether :meth:`look` changes the state."""

    look_moves: bool = False
    """Whether :meth:`look` assigns a new ``point``, which is passed to :meth:`move`."""

    moves_state: bool = False
    """Whether :meth:`move` changes the state."""

    shared: frozenset[str] = frozenset()
    """States of B that are changed by the rule of A, if both are updated together."""

    def look(self, batch: FactorBatch) -> Core:
        """First pass: update the state and return small matrices, such as r x r.

        The engine replaces ``"gram"``, the argument of
        :func:`~stiefel_lora.geometry.roots.polar_core`, by its result ``"polar"``.
        """
        raise NotImplementedError

    def move(self, batch: FactorBatch, core: Core) -> None:
        """Second pass: assign the new ``point``.

        ``state`` has the values after the first pass. ``core`` is the result of the
        first pass, or of the solver.
        """
        raise NotImplementedError


def _is_number(option: Option) -> bool:
    return option.type in (int, float) and not option.choices and not option.optional


def keeps_orthonormal(optimizer: object) -> bool:
    """Return whether an optimizer or optimizer class keeps B orthonormal."""
    rule = getattr(optimizer, "rule", None)
    return bool(getattr(rule, "orthonormal_up", False))
