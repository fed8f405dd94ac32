"""Early stopping when the validation loss no longer falls."""

from __future__ import annotations

import math
from typing import Any

__all__ = ["EarlyStop"]


class EarlyStop:
    """Counts validations in a row without improvement.

    Args:
        patience: number of validations without improvement after which the run ends. 0
            disables early stopping.
        min_delta: minimum decrease of the loss that counts as an improvement.
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
        """Return whether the run may end early at all."""
        return self._patience > 0

    @property
    def wanted(self) -> bool:
        """Return whether the run should end."""
        return self.watches and self._waited >= self._patience

    def see(self, step: int, loss: float) -> bool:
        """Record a loss. Return True if it is the best so far."""
        # A smaller improvement also leaves the best loss as it is, so that many small
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
        """Resume from a result of ``state``."""
        self._best, self._waited = float(state["best"]), int(state["waited"])
        self.best_step = None if state["step"] is None else int(state["step"])

    def forget_best(self) -> None:
        """Make the next loss the best one, since the LoRA of the best one is gone."""
        self._best, self._waited, self.best_step = math.inf, 0, None
