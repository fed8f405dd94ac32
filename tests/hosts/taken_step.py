"""Record of one step of a program: the loss, the gradients and the new factors.

Imports only torch, so that it runs in every host's environment.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from typing import Any

import torch
from torch import Tensor
from torch.optim.optimizer import register_optimizer_step_pre_hook

__all__ = ["TakenStep"]


class TakenStep:
    """Recorder of a step.

    Args:
        names: function that returns the factors by their names in kohya files.
    """

    def __init__(self, names: Callable[[], dict[str, Tensor]]) -> None:
        self._names = names
        self.tensors: dict[str, Tensor] = {}

    @contextlib.contextmanager
    def recorded(self) -> Iterator[None]:
        """Record gradients, as the optimizer gets them, and factors."""
        hook = register_optimizer_step_pre_hook(self.before)
        try:
            yield
        finally:
            hook.remove()
        self._keep("after", lambda factor: factor)

    def add(self, name: str, value: Tensor) -> None:
        """Record a tensor, such as the loss."""
        self.tensors[name] = value.detach().float().clone().contiguous()

    def before(self, *_: Any) -> None:
        """Record the gradients, for a program that calls no hooks of optimizers."""
        self._keep("before", lambda factor: factor)
        self._keep("grad", lambda factor: factor.grad)

    def _keep(self, kind: str, of: Callable[[Tensor], Tensor | None]) -> None:
        for name, factor in self._names().items():
            value = of(factor)
            self.add(f"{kind} {name}", torch.zeros(()) if value is None else value)
