"""Train the demo LoRA with every method, at the best learning rate of a sweep.

Three rates a method, a factor of 3 apart; a sweep whose best rate lies at its edge is
extended, to five rates at most. AdamW is swept like the others. Stiefel LoRA and AdamW
train DoRA too. This compares all methods with one seed; it is not a claim about
quality::

    python benchmarks/methods_on_demo.py run --results benchmarks/results/methods.jsonl
    python benchmarks/methods_on_demo.py report --results ...
"""

from __future__ import annotations

import dataclasses
import math
from typing import Any

from demo_runs import Rows, run_or_report, train_demo

from stiefel_lora.jobs.comparison import swept_rates

RANK, STEPS, SEED = 16, 200, 1
RATE_STEP, WIDEST = 3.0, 5


@dataclasses.dataclass(frozen=True)
class Row:
    """A line of the table: a method with the rate its sweep is centred on."""

    method: str
    rate: float
    settings: tuple[tuple[str, Any], ...] = ()

    @property
    def label(self) -> str:
        """The method and what differs from its defaults."""
        return " ".join([self.method, *(f"{key}={v}" for key, v in self.settings)])


ROWS = (
    Row("adamw", 3e-3),
    Row("adamw_8bit", 3e-3),
    Row("lora_plus", 1e-3),
    Row("scaled_adamw", 3e-3),
    Row("lora_rite", 1e-2),
    Row("stella", 1e-2),
    Row("riemannion", 1e-2),
    Row("stiefel_lora", 1e-2),
    Row("adamw", 3e-3, (("use_dora", True),)),
    Row("stiefel_lora", 1e-2, (("use_dora", True),)),
)


@dataclasses.dataclass(frozen=True)
class Job:
    """One training run."""

    row: Row
    rate: float

    @property
    def key(self) -> str:
        """Identity of a finished run."""
        return f"{self.row.label} | {self.rate:.3g}"

    def train(self) -> dict[str, Any]:
        """Train it."""
        return train_demo(
            {
                "optimizer": {"name": self.row.method},
                "lora_rank": RANK,
                "learning_rate": self.rate,
                "seed": SEED,
                "steps": STEPS,
                "learning_rate_scheduler": "cosine",
                **dict(self.row.settings),
            }
        )


def next_job(done: Rows, tried: set[str]) -> Job | None:
    """Return the first missing run."""
    jobs = (Job(row, rate) for row in ROWS for rate in wanted_rates(row, done))
    return next((j for j in jobs if j.key not in done and j.key not in tried), None)


def wanted_rates(row: Row, done: Rows) -> list[float]:
    """Return the rates of a sweep that are known so far."""
    return swept_rates(row.rate, RATE_STEP, WIDEST, lambda rate: loss(row, rate, done))


def loss(row: Row, rate: float, done: Rows) -> float:
    """Return the validation loss; NaN if unknown."""
    found = done.get(Job(row, rate).key)
    return math.nan if found is None else found["held_out"]


def report(done: Rows) -> str:
    """Markdown table."""
    return "\n".join(
        [
            f"One seed, not a quality claim. Rank {RANK}, {STEPS} steps.",
            "",
            "| method | rates | best rate | validation loss "
            "| effective rank, mean / lowest | stable rank | seconds |",
            "|---|---|---|---|---|---|---|",
            *(line(row, done) for row in ROWS),
        ]
    )


def line(row: Row, done: Rows) -> str:
    """One line of the table, or a note that it was not run."""
    rates = wanted_rates(row, done)
    known = {rate: loss(row, rate, done) for rate in rates}
    known = {rate: value for rate, value in known.items() if not math.isnan(value)}
    if not known:
        return f"| {row.label} | 0 | not run | | | | |"
    best = min(known, key=lambda rate: known[rate])
    found = done[Job(row, best).key]
    edge = " (edge of the sweep)" if best in (rates[0], rates[-1]) else ""
    return (
        f"| {row.label} | {len(known)} | {best:.3g}{edge} | {found['held_out']:.4f} "
        f"| {found['effective_rank_mean']:.1f} / {found['effective_rank_lowest']:.1f} "
        f"| {found['stable_rank_mean']:.1f} | {found['seconds']:.0f} |"
    )


if __name__ == "__main__":
    run_or_report(__doc__, next_job, report)
