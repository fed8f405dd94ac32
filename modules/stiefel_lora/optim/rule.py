"""The contract of a method: batched mathematics on stacked pairs.

A rule does not see modules, devices, groups or checkpoints. The optimizer
(:class:`~stiefel_lora.optim.pair_optimizer.PairOptimizer`) stacks pairs of one shape,
calls the rule and writes the result back. A method has one of two forms:

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
from typing import Any, Literal, NamedTuple, TypedDict

from torch import Tensor

from ..methods import Option, adam_options

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
"""One value for a whole batch, or ``(K, 1, 1)`` where its pairs differ."""

Core = dict[str, Tensor]
"""Results of the first pass, each with K as its first axis."""

Solver = Callable[[Core, Core, Tensor, dict[str, Tensor]], tuple[Core, Core]]
"""Maps the matrices of both first passes (B's, A's), the learning rate of the product
and the numeric options (``(K, 1, 1)`` each; with ``"step"`` where a rule counts steps)
to the inputs of both second passes."""


class AdamWOptions(TypedDict):
    """Options of torch's AdamW except for the learning rate."""

    beta1: float
    beta2: float
    eps: float
    weight_decay: float


_USUAL = {option.name: option.default for option in adam_options()}


class Rule:
    """Update rule of one method. The defaults suit factors without constraints.

    A rule needs only :meth:`update`, and :meth:`states` if it keeps any.
    """

    options: tuple[Option, ...] = ()
    """Options of the method, if ``register`` created its record."""

    orthonormal_up: bool = False
    """Whether B must have orthonormal columns before the first update."""

    factorizes: bool = False
    """Whether factors or gradients are passed to LAPACK, which raises on NaN."""

    counts_steps: bool = False
    """Whether passes over single factors need the number of a pair's step."""

    gauge_free: frozenset[str] = frozenset()
    """States that stay valid when the factors change coordinates."""

    def choices(self, group: Mapping[str, Any]) -> dict[str, Any]:
        """Return the options that select code. Pairs are batched by their values.

        By default, the :attr:`options` that are not numbers or may be None.
        """
        return {o.name: group[o.name] for o in self.options if not _is_number(o)}

    def numbers(self, group: Mapping[str, Any]) -> dict[str, float]:
        """Return the numeric options of a parameter group, with defaults filled in.

        By default, the :attr:`options` that always have a value.
        """
        return {o.name: group[o.name] for o in self.options if _is_number(o)}

    def states(self, choices: Mapping[str, Any]) -> dict[str, StateShape]:
        """Return the shape of each state tensor by name.

        ``"up"`` and ``"down"`` have the shape of B and A, ``"core"`` is r x r,
        ``"scalar"`` is 1 x 1, ``"rows"`` is a column with one number per row of B,
        ``"columns"`` is a row with one number per column of A. With factor rules, A
        owns the states ``"down"`` and ``"columns"``, B all others.
        """
        return {}

    def adopt(self, up: HeldFactor, down: HeldFactor) -> None:
        """Convert the state that an older version saved for a pair, in place.

        Called before :meth:`prepare`, at the factors that the pair will be trained
        from.
        """

    def adamw_roles(self, group: Mapping[str, Any]) -> dict[Role, float]:
        """Return the factors that AdamW trains, with their learning rate multiples.

        If both are named, :meth:`update` is not called.
        """
        return {}

    def factor_rules(self, choices: Mapping[str, Any]) -> Mapping[Role, FactorRule]:
        """Return the rules of the factors that are updated separately.

        A method has either these or :meth:`update`.
        """
        return {}

    def solver(self, choices: Mapping[str, Any]) -> Solver | None:
        """Return the solver between the two passes, if B and A are updated jointly.

        None for separable factors: each moves as soon as its gradient is available.
        Otherwise both factors must have a factor rule.
        """
        return None

    def joint_numbers(self, choices: Mapping[str, Any]) -> tuple[str, ...]:
        """Return the options with one value per pair, taken from the group of B.

        With a solver, a learning rate among them is the geometric mean of both.
        """
        return ()

    def adamw_options(self, group: Mapping[str, Any]) -> AdamWOptions:
        """Return the AdamW options for all parameters that the rule does not update.

        These are the factors of :meth:`adamw_roles` and the parameters outside pairs.
        By default, the method's own options of these names; without them, Adam's
        defaults and no decay.
        """
        return {
            "beta1": group.get("beta1", _USUAL["beta1"]),
            "beta2": group.get("beta2", _USUAL["beta2"]),
            "eps": group.get("eps", _USUAL["eps"]),
            "weight_decay": group.get("weight_decay", 0.0),
        }

    def rest_lr_ratio(self, group: Mapping[str, Any]) -> float:
        """Return the learning rate multiple of parameters outside of pairs."""
        return 1.0

    def prepare(self, batch: PairBatch) -> Tensor | None:
        """Prepare pairs in place before their first step and after every load.

        Factors, gradients and state may change. A pair that needs no change must stay
        identical to the bit, so that resuming is exact.

        Returns:
            Mask of the pairs that may step now, bool ``(K,)``; None means all of them.
        """
        return None

    def measures(self, group: Mapping[str, Any]) -> bool:
        """Return whether :meth:`measure` must run before the updates."""
        return False

    def measure(self, batch: PairBatch) -> Tensor:
        """Return one number per pair, ``(K, 1, 1)``, which is summed over all pairs."""
        raise NotImplementedError

    def measure_seen(self, up: Core, down: Core, numbers: dict[str, Tensor]) -> Tensor:
        """Return the same number from the matrices of both first passes.

        The solver gets what this adds to them, and the sum over all pairs as the number
        ``"joint"``, ``(1, 1, 1)``.
        """
        raise NotImplementedError

    def update(self, batch: PairBatch) -> None:
        """Take one step on stacked pairs and update their factors and state."""
        raise NotImplementedError


class HeldFactor(NamedTuple):
    """One factor, ``(out, r)`` or ``(r, in)``, and everything stored for it."""

    value: Tensor
    state: dict[str, Any]


@dataclasses.dataclass
class PairBatch:
    """Batch of K stacked pairs of one shape, whose tensors a rule replaces.

    A rule must never write into the given tensors: they are restored for pairs that
    cannot take the step.

    Attributes:
        up: B, ``(K, out, r)``.
        down: A, ``(K, r, in)``.
        grad_up, grad_down: gradients, same shapes, in the dtype of the factors.
        state: name -> ``(K, *shape)``; zeros at a pair's first step.
        lr_up, lr_down: learning rates, ``(K, 1, 1)`` (LoRA+ and block rates differ).
        step: 1-based number of this step for each pair, ``(K, 1, 1)``.
        numbers: numeric options, ``(K, 1, 1)`` each.
        choices: options that are the same for all K pairs.
        names: names of the K pairs, for seeds.
        width: median of all layer sides (in and out) that the optimizer trains.
        joint: sum of :meth:`Rule.measure` over all pairs of this step, ``(1, 1, 1)``;
            0 for rules that measure nothing.
        usable: mask of the pairs that take the step, bool ``(K, 1, 1)``; a rule gets
            zeros for the others. None: all of them.
        kept: for the engine: the real factors, where the rule gets zeros.
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
        grad: gradient, same shape; read-only for a rule.
        state: name -> ``(K, ...)`` of the shape given by the rule's ``states``; zeros
            at a factor's first step.
        lr: learning rates.
        numbers: numeric options.
        choices: options that are the same for all K factors.
        step: number of this step, from 1, where the rule counts steps.
        width: median of all layer sides, where both factors of a pair step together.
        writable: whether a rule may write into the stacks of point and state that it
            was given, which may be the parameters themselves; otherwise the old ones
            are needed for factors that stay.
    """

    point: Tensor
    grad: Tensor
    state: dict[str, Tensor]
    lr: Number
    numbers: dict[str, Number]
    choices: dict[str, Any]
    step: Number = 0.0
    width: float = 0.0
    writable: bool = False

    def release(self) -> None:
        """Free the memory of gradient and state in the second pass."""
        self.grad, self.state = self.point.new_empty(0), {}


class FactorRule:
    """The mathematics of one factor, in two passes."""

    has_look: bool = True
    """Whether there is a first pass; without it, :meth:`move` updates the state."""

    look_changes_state: bool = True
    """Whether :meth:`look` changes the state."""

    look_moves: bool = False
    """Whether :meth:`look` already replaces the point, which :meth:`move` then gets."""

    moves_state: bool = False
    """Whether :meth:`move` changes the state again."""

    shared: frozenset[str] = frozenset()
    """States of B that the passes of A change, where both step together."""

    def look(self, batch: FactorBatch) -> Core:
        """First pass: update the state and return small matrices, such as r x r.

        The engine replaces ``"gram"``, the argument of
        :func:`~stiefel_lora.geometry.roots.polar_core`, by its result ``"polar"``.
        """
        raise NotImplementedError

    def move(self, batch: FactorBatch, core: Core) -> None:
        """Second pass: overwrite the point. ``state`` is as left by the first pass.

        ``core`` is the result of the first pass, or of the solver.
        """
        raise NotImplementedError


def _is_number(option: Option) -> bool:
    return option.type in (int, float) and not option.choices and not option.optional


def keeps_orthonormal(optimizer: object) -> bool:
    """Return whether any optimizer, or its class, keeps B orthonormal."""
    rule = getattr(optimizer, "rule", None)
    return bool(getattr(rule, "orthonormal_up", False))
