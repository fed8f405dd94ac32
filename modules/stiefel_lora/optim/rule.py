"""What a method is to the engine: batched mathematics on stacked pairs.

A rule knows nothing of modules, names, devices, groups or checkpoints. The engine
stacks pairs of one shape, calls :meth:`Rule.update` and writes the result back.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any, Literal, Protocol

from torch import Tensor

__all__ = ["PairBatch", "Rule", "StateShape"]

StateShape = Literal["up", "down", "core"]


@dataclasses.dataclass
class PairBatch:
    """K stacked pairs of one shape; a rule overwrites factors and state in place.

    Attributes:
        up: B, ``(K, out, r)``.
        down: A, ``(K, r, in)``.
        grad_up, grad_down: gradients, same shapes, in the dtype of the factors.
        state: name -> ``(K, *shape)``; zeros at a pair's first step.
        lr_up, lr_down: learning rates, ``(K, 1, 1)`` (LoRA+ and block rates differ).
        step: number of this step of each pair, from 1, ``(K, 1, 1)``.
        numbers: numeric options, ``(K, 1, 1)`` each.
        choices: options that are the same for all K pairs.
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


class Rule(Protocol):
    """The mathematics of one method."""

    orthonormal_up: bool
    """Whether B must have orthonormal columns before the first update."""

    def choices(self, group: Mapping[str, Any]) -> dict[str, Any]:
        """Options that select code; pairs are batched by them."""
        ...

    def numbers(self, group: Mapping[str, Any]) -> dict[str, float]:
        """Numeric options of a parameter group, with documented defaults filled in."""
        ...

    def states(self, choices: Mapping[str, Any]) -> dict[str, StateShape]:
        """Name -> shape of each state tensor: like B, like A, or r x r."""
        ...

    def adamw_down(self, choices: Mapping[str, Any]) -> bool:
        """Whether A takes torch's AdamW, so that the rule moves B alone."""
        ...

    def rest_lr_ratio(self, group: Mapping[str, Any]) -> float:
        """Learning rate of what has no pair, as a multiple of the group's."""
        ...

    def update(self, batch: PairBatch) -> None:
        """Take one step on stacked pairs, in place, without waiting for the device."""
        ...
