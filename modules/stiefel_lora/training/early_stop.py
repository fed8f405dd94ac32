"""Early stopping if the validation loss does not improve."""

from __future__ import annotations

import math
from typing import Any

__all__ = ["EarlyStop"]


class EarlyStop:
    """Early stopping after a number of validations without improvement.

    Args:
        patience: number of consecutive validations without improvement after which
            training stops. 0 disables early stopping.
        min_delta: minimum decrease of the loss that is regarded as an improvement.
    """

    def __init__(self, patience: int, min_delta: float) -> None:
        self._patience = patience
        self._min_delta = min_delta
        self._best = math.inf
        self._waited = 0
        self.best_step: int | None = None
        """Step of the lowest loss so far."""

    @property
    def watches(self) -> bool:
        """Return whether early stopping is enabled."""
        return self._patience > 0

    @property
    def wanted(self) -> bool:
        """Return whether training should stop."""
        return self.watches and self._waited >= self._patience

    def see(self, step: int, loss: float) -> bool:
        """Record a validation loss. Return whether it is the lowest so far."""
        # A smaller improvement also does not change the best loss, so that many small
        # ones add up to one that counts.
        better = loss < self._best - self._min_delta
        if better:
            self._best, self._waited, self.best_step = loss, 0, step
        else:
            self._waited += 1
        return better

    def state(self) -> dict[str, Any]:
        """Return the state to resume from."""
        return {"best": self._best, "waited": self._waited, "step": self.best_step}

    def restore(self, state: dict[str, Any]) -> None:
        """Load a state returned by :meth:`state`."""
        self._best, self._waited = float(state["best"]), int(state["waited"])
        self.best_step = None if state["step"] is None else int(state["step"])

    def forget_best(self) -> None:
        """Reset the lowest loss. The LoRA file of that step no longer exists."""
        self._best, self._waited, self.best_step = math.inf, 0, None
