"""Settings of a training run, and what of it depends on the step alone."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True)
class Recipe:
    """Settings of a run; `lr` is AdamW's, `every` the steps between checkpoints."""

    steps: int
    batch: int
    lr: float
    seed: int
    every: int = 250

    def rate(self, step: int, warm_up: int) -> float:
        """Learning rate: linear warm-up, then cosine from `lr` to 0."""
        if step < warm_up:
            return self.lr * (step + 1) / warm_up
        share = (step - warm_up) / max(1, self.steps - warm_up)
        return self.lr * 0.5 * (1 + math.cos(math.pi * share))

    def random(self, step: int) -> np.random.Generator:
        """The random numbers of a step."""
        return np.random.default_rng([self.seed, step])

    def chosen(self, step: int, count: int) -> np.ndarray:
        """Places `step * batch ...` in an endless row of seeded permutations."""
        places = np.arange(step * self.batch, (step + 1) * self.batch)
        rows = {
            epoch: np.random.default_rng([self.seed, 1, epoch]).permutation(count)
            for epoch in np.unique(places // count).tolist()
        }
        return np.array([rows[p // count][p % count] for p in places.tolist()])
