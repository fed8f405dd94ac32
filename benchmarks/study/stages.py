"""What is run in which order; each stage asks for the next run that is missing."""

from __future__ import annotations

import dataclasses
import math
import statistics
from collections.abc import Iterable, Iterator

from demo_runs import Rows, swept_rates
from one_run import NUMERICS, Method, Run

__all__ = ["ADAMW", "STAGES", "Cell", "Stage"]

ADAMW = Method("AdamW", "adamw", 3e-3)
PRODUCT = Method("Stiefel LoRA, product", "stiefel_lora", 1e-2, (("step", "product"),))
FACTORS = Method("Stiefel LoRA, factors", "stiefel_lora", 2e-2)
RATE_STEP, FIRST, WIDEST = 2.0, 5, 7
SEEDS = (1, 2, 3)


@dataclasses.dataclass(frozen=True)
class Cell:
    """One line of a table: a method on a base, at a rank and a budget."""

    base: str
    method: Method
    rank: int
    steps: int
    rates: int = FIRST

    def runs(self, rate: float) -> list[Run]:
        """All seeds at one rate."""
        return [
            Run(self.base, self.method, self.rank, rate, seed, self.steps)
            for seed in SEEDS
        ]

    def rows(self, done: Rows, rate: float) -> dict[int, dict]:
        """Seed -> row of the runs that are in."""
        return {
            run.seed: done[run.key]
            for run in self.runs(rate)
            if done.get(run.key, {}).get("numerics") == NUMERICS
        }

    def chosen_on(self, done: Rows, rate: float) -> float:
        """Mean loss on the half that rates are chosen on; NaN where nothing is in."""
        found = [_first_half(row) for row in self.rows(done, rate).values()]
        return statistics.fmean(found) if found else math.nan

    def sweep(self, done: Rows) -> list[float]:
        """Rates of the sweep as far as it is known: extended until one is interior."""
        return swept_rates(
            self.method.rate,
            RATE_STEP,
            WIDEST,
            lambda rate: self.chosen_on(done, rate),
            self.rates,
        )

    def best(self, done: Rows) -> list[float]:
        """The best rate and its neighbours; empty while the sweep is not complete."""
        rates = self.sweep(done)
        losses = [self.chosen_on(done, rate) for rate in rates]
        if any(math.isnan(loss) for loss in losses):
            return []
        best = losses.index(min(losses))
        return rates[max(0, best - 1) : best + 2]


def _first_half(row: dict) -> float:
    return row["curve"][-1][0] if "curve" in row else row["held_out"]


@dataclasses.dataclass(frozen=True)
class Stage:
    """A set of cells, in the order of what is wanted first."""

    title: str
    cells: tuple[Cell, ...]

    def next_run(self, done: Rows, tried: set[str]) -> Run | None:
        """The first run that is missing: sweeps of all cells before further seeds."""
        for run in self._wanted(done):
            if run.key not in tried and run.key not in done:
                return run
        return None

    def _wanted(self, done: Rows) -> Iterator[Run]:
        for cell in self.cells:
            for rate in cell.sweep(done):
                yield cell.runs(rate)[0]
        for further in range(1, len(SEEDS)):
            for cell in self.cells:
                for rate in cell.best(done):
                    yield cell.runs(rate)[further]


def _cells(
    methods: Iterable[Method], bases: Iterable[str], rank: int, steps: int
) -> Iterator[Cell]:
    for base in bases:
        for method in methods:
            yield Cell(base, method, rank, steps)


BASES = ("sdxl", "flux")
STAGES = {
    "product": Stage(
        "The step of the product beside AdamW",
        (
            *_cells((ADAMW, PRODUCT), BASES, 16, 120),
            *_cells((ADAMW, PRODUCT), BASES, 64, 120),
            *_cells((ADAMW, PRODUCT), BASES, 4, 120),
            *_cells((ADAMW, PRODUCT), BASES, 16, 60),
            *_cells((FACTORS,), BASES, 16, 120),
        ),
    ),
}
