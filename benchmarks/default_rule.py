"""Choose the default rules of StiefelLoRA by the demo task.

Every candidate trains the demo LoRA at ranks 16 and 64 with at least three learning
rates, AdamW with at least five; a sweep whose best rate lies at its edge is extended.
The best rate and its neighbors are run with three seeds. Judged by the loss on 160
validation concepts; the best rate is chosen on the same ones, for all alike. It can be
stopped at any time and started several times in parallel::

    python benchmarks/default_rule.py run --results benchmarks/results/rule.jsonl
    python benchmarks/default_rule.py report --results ...
"""

from __future__ import annotations

import dataclasses
import math
import statistics
from typing import Any

from demo_runs import Rows, run_or_report, train_demo

from stiefel_lora.jobs.comparison import swept_rates

RANKS = (16, 64)
STEPS = 120
SEEDS = (1, 2, 3)
RATE_STEP, WIDEST = 2.0, 7


@dataclasses.dataclass(frozen=True)
class Candidate:
    """An optimizer with options and the rate its sweep is centred on."""

    label: str
    optimizer: dict[str, Any]
    rate: float
    first: int = 3
    """Rates that are tried whatever they give."""


def stiefel(b_rule: str, a_rule: str, rate: float, **options: Any) -> Candidate:
    """A StiefelLoRA candidate labeled by its differences."""
    extra = "".join(f", {key} {value}" for key, value in options.items())
    chosen = {"name": "stiefel_lora", "b_rule": b_rule, "a_rule": a_rule, **options}
    return Candidate(f"B {b_rule}, A {a_rule}{extra}", chosen, rate)


CANDIDATES = (
    Candidate("AdamW", {"name": "adamw"}, 3e-3, first=5),
    stiefel("spectral", "muon", 2e-2),
    stiefel("spectral", "muon", 2e-2, momentum=0.8),
    stiefel("spectral", "muon", 2e-2, angle_per_lr=1.0),
    stiefel("spectral", "muon", 2e-2, nesterov=False),
    stiefel("spectral", "adamw", 6e-3),
    stiefel("momentum", "muon", 2e-2),
    stiefel("momentum", "sign", 6e-3),
)


@dataclasses.dataclass(frozen=True)
class Job:
    """One training run."""

    candidate: Candidate
    rank: int
    rate: float
    seed: int

    @property
    def key(self) -> str:
        """Identity of a finished run."""
        return f"{self.candidate.label} | {self.rank} | {self.rate:.3g} | {self.seed}"

    def train(self) -> dict[str, Any]:
        """Train it."""
        return train_demo(
            {
                "optimizer": self.candidate.optimizer,
                "lora_rank": self.rank,
                "learning_rate": self.rate,
                "seed": self.seed,
                "steps": STEPS,
                "learning_rate_scheduler": "cosine",
            }
        )


def next_job(done: Rows, tried: set[str]) -> Job | None:
    """The first run that is missing: one seed everywhere before the next seed."""
    for seed in SEEDS:
        for rank in RANKS:
            for candidate in CANDIDATES:
                rates = wanted_rates(candidate, rank, done)
                if seed > SEEDS[0]:
                    rates = around_best(candidate, rank, rates, done)
                for rate in rates:
                    job = Job(candidate, rank, rate, seed)
                    if job.key not in done and job.key not in tried:
                        return job
    return None


def around_best(
    candidate: Candidate, rank: int, rates: list[float], done: Rows
) -> list[float]:
    """The best rate so far and its neighbors; none while the sweep is not complete."""
    losses = [mean_loss(candidate, rank, rate, done) for rate in rates]
    if any(math.isnan(loss) for loss in losses):
        return []
    best = losses.index(min(losses))
    return rates[max(0, best - 1) : best + 2]


def wanted_rates(candidate: Candidate, rank: int, done: Rows) -> list[float]:
    """The rates of a sweep as far as it is known."""
    return swept_rates(
        candidate.rate,
        RATE_STEP,
        WIDEST,
        lambda rate: mean_loss(candidate, rank, rate, done),
        candidate.first,
    )


def mean_loss(candidate: Candidate, rank: int, rate: float, done: Rows) -> float:
    """Mean validation loss over finished seeds; NaN where there is none."""
    found = [row["held_out"] for row in finished(candidate, rank, rate, done)]
    return statistics.fmean(found) if found else math.nan


def finished(
    candidate: Candidate, rank: int, rate: float, done: Rows
) -> list[dict[str, Any]]:
    """Results of all seeds that are in."""
    keys = (Job(candidate, rank, rate, seed).key for seed in SEEDS)
    return [done[key] for key in keys if key in done]


def report(done: Rows) -> str:
    """Markdown table: every candidate at its best rate, with the spread of seeds."""
    lines = [
        "| rank | rule | rates | best rate | validation loss, mean | lowest .. highest "
        "| seeds | effective rank, mean / lowest | stable rank |",
        "|---|---|---|---|---|---|---|---|---|",
    ]
    for rank in RANKS:
        for candidate in CANDIDATES:
            lines.append(row_of(candidate, rank, done))
    return "\n".join(lines)


def row_of(candidate: Candidate, rank: int, done: Rows) -> str:
    """One line of the report, or a note that it was not run."""
    rates = wanted_rates(candidate, rank, done)
    losses = [mean_loss(candidate, rank, rate, done) for rate in rates]
    known = [loss for loss in losses if not math.isnan(loss)]
    if not known:
        return f"| {rank} | {candidate.label} | 0 | not run | | | 0 | | |"
    best = losses.index(min(known))
    rows = finished(candidate, rank, rates[best], done)
    found = [row["held_out"] for row in rows]
    edge = "" if 0 < best < len(rates) - 1 else " (edge of the sweep)"
    mean = statistics.fmean(row.get("effective_rank_mean", math.nan) for row in rows)
    lowest = min(row.get("effective_rank_lowest", math.nan) for row in rows)
    stable = statistics.fmean(row.get("stable_rank_mean", math.nan) for row in rows)
    return (
        f"| {rank} | {candidate.label} | {len(known)} | {rates[best]:.3g}{edge} "
        f"| {statistics.fmean(found):.4f} | {min(found):.4f} .. {max(found):.4f} "
        f"| {len(rows)} | {mean:.1f} / {lowest:.1f} | {stable:.1f} |"
    )


if __name__ == "__main__":
    run_or_report(__doc__, next_job, report)
