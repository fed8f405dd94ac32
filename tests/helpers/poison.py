"""An optimizer that breaks its parameters at a set step."""

from __future__ import annotations

from typing import Any

import torch

__all__ = ["PoisonedSGD"]


class PoisonedSGD(torch.optim.SGD):
    """SGD whose ``index``-th parameter becomes ``value`` in step ``at`` (from 1)."""

    def __init__(
        self,
        params: Any,
        lr: float,
        at: int = 2,
        index: int = 2,
        value: float = float("nan"),
    ) -> None:
        super().__init__(params, lr=lr)
        self.at, self.index, self.value, self.count = at, index, value, 0

    @torch.no_grad()
    def step(self, closure: Any = None) -> Any:
        """One step of SGD, then the damage."""
        result = super().step(closure)
        self.count += 1
        if self.count == self.at:
            self.param_groups[0]["params"][self.index].fill_(self.value)
        return result
