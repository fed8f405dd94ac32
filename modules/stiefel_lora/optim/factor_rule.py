"""A method as two passes over each factor, with r x r work for all layers between.

The first pass over the tall matrices leaves r x r ones; those of all layers are worked
on in one stack, since many small launches are what a step on a GPU consists of; the
second pass moves the factors. Between the passes nothing tall is held. In a separable
method neither factor depends on the other; elsewhere a solver between the passes sees
the r x r matrices of both.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Any

from torch import Tensor

__all__ = ["Core", "FactorBatch", "FactorRule", "Number", "Solver"]

Number = float | Tensor
"""One value for a whole batch, or ``(K, 1, 1)`` where its pairs differ."""

Core = dict[str, Tensor]
"""Results of the first pass, each with K as its first axis."""

Solver = Callable[[Core, Core, Tensor, dict[str, Tensor]], tuple[Core, Core]]
"""Matrices of both first passes (B's, A's), the learning rate of the product and the
numeric options, ``(K, 1, 1)`` each -> what the second passes are given."""


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
