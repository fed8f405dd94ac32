"""Which rules StiefelLoRA should have by default, decided by the demo task.

Every candidate, and AdamW, trains the demo LoRA at ranks 16 and 64 with at least three
learning rates and three seeds; a sweep whose best rate lies at its edge is extended.
Judged by the loss on 160 held-out concepts. A run that is in the results file is not
run again, and one that another process has begun is left to it, so the script can be
stopped at any time and started several times over::

    python benchmarks/default_rule.py run --results benchmarks/results/rule.jsonl
    python benchmarks/default_rule.py report --results ...
"""

from __future__ import annotations

import argparse
import dataclasses
import hashlib
import json
import logging
import math
import statistics
import tempfile
import time
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout

ROOT = Path(__file__).resolve().parent.parent
PRESET = ROOT / "training_presets" / "SDXL" / "demo_stiefel_lora.json"
RANKS = (16, 64)
STEPS = 120
SEEDS = (1, 2, 3)
RATE_STEP = 2.0
WIDEST = 7
"""Rates of one sweep at most; a best rate still at the edge is reported as such."""


@dataclasses.dataclass(frozen=True)
class Candidate:
    """An optimizer with options and the rate its sweep is centred on."""

    label: str
    optimizer: dict[str, Any]
    rate: float

    def rates(self, exponents: range) -> list[float]:
        """The rates at these powers of RATE_STEP around the centre."""
        return [float(f"{self.rate * RATE_STEP**e:.3g}") for e in exponents]


def stiefel(b_rule: str, a_rule: str, rate: float, **options: Any) -> Candidate:
    """A StiefelLoRA candidate labelled by what differs."""
    extra = "".join(f", {key} {value}" for key, value in options.items())
    chosen = {"name": "stiefel_lora", "b_rule": b_rule, "a_rule": a_rule, **options}
    return Candidate(f"B {b_rule}, A {a_rule}{extra}", chosen, rate)


CANDIDATES = (
    Candidate("AdamW", {"name": "adamw"}, 6e-3),
    stiefel("spectral", "muon", 2e-2),
    stiefel("spectral", "muon", 2e-2, momentum=0.8),
    stiefel("spectral", "muon", 2e-2, angle_per_lr=1.0),
    stiefel("spectral", "adamw", 6e-3),
    stiefel("momentum", "muon", 2e-2),
    stiefel("momentum", "adamw", 6e-3),
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
        """What makes a finished run the same run."""
        return f"{self.candidate.label} | {self.rank} | {self.rate:.3g} | {self.seed}"


def main() -> None:
    """Run what is missing, or print the table."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("action", choices=("run", "report"))
    parser.add_argument("--results", type=Path, required=True)
    parser.add_argument("--minutes", type=float, default=math.inf)
    arguments = parser.parse_args()
    if arguments.action == "run":
        run_missing(arguments.results, arguments.minutes)
    print(report(read(arguments.results)))


def read(path: Path) -> dict[str, dict[str, Any]]:
    """Finished runs by key."""
    if not path.exists():
        return {}
    rows = (json.loads(line) for line in path.read_text("utf-8").splitlines())
    return {row["key"]: row for row in rows}


def run_missing(path: Path, minutes: float) -> None:
    """Train until every sweep is complete or the time is over."""
    claims = path.with_suffix(".claims")
    claims.mkdir(parents=True, exist_ok=True)
    deadline = time.monotonic() + 60 * minutes
    tried: set[str] = set()
    while time.monotonic() < deadline:
        job = next_job(read(path), tried)
        if job is None:
            return
        tried.add(job.key)
        name = hashlib.sha256(job.key.encode()).hexdigest()[:16]
        try:
            with FileLock(claims / f"{name}.lock", timeout=0):
                if job.key not in read(path):
                    record(path, {"key": job.key, **train_once(job)})
        except Timeout:
            continue


def record(path: Path, row: dict[str, Any]) -> None:
    """Append a finished run."""
    with path.open("a", encoding="utf-8") as file:
        file.write(json.dumps(row) + "\n")
    print(f"{row['key']}: {row['held_out']:.4f}", flush=True)


def next_job(done: dict[str, dict[str, Any]], tried: set[str]) -> Job | None:
    """The first run that is missing: one seed everywhere before the next seed."""
    for seed in SEEDS:
        for rank in RANKS:
            for candidate in CANDIDATES:
                for rate in wanted_rates(candidate, rank, done):
                    job = Job(candidate, rank, rate, seed)
                    if job.key not in done and job.key not in tried:
                        return job
    return None


def wanted_rates(
    candidate: Candidate, rank: int, done: dict[str, dict[str, Any]]
) -> list[float]:
    """Three rates, and more on the side where the best so far lies at the edge."""
    low, high = -1, 2
    while high - low < WIDEST:
        rates = candidate.rates(range(low, high))
        losses = mean_losses(candidate, rank, rates, done)
        if any(math.isnan(loss) for loss in losses):
            return rates
        best = losses.index(min(losses))
        if 0 < best < len(rates) - 1:
            return rates
        low, high = (low - 1, high) if best == 0 else (low, high + 1)
    return candidate.rates(range(low, high))


def mean_losses(
    candidate: Candidate, rank: int, rates: list[float], done: dict[str, dict[str, Any]]
) -> list[float]:
    """Mean held-out loss over finished seeds of each rate; NaN where there is none."""
    means = []
    for rate in rates:
        rows = finished(candidate, rank, rate, done)
        found = [row["held_out"] for row in rows]
        means.append(statistics.fmean(found) if found else math.nan)
    return means


def finished(
    candidate: Candidate, rank: int, rate: float, done: dict[str, dict[str, Any]]
) -> list[dict[str, Any]]:
    """Results of all seeds that are in."""
    keys = (Job(candidate, rank, rate, seed).key for seed in SEEDS)
    return [done[key] for key in keys if key in done]


def train_once(job: Job) -> dict[str, Any]:
    """One run through the package's own trainer, measured once at the end."""
    from stiefel_lora._exceptions import NonFiniteError
    from stiefel_lora.config import load_config
    from stiefel_lora.training import train

    logging.disable(logging.INFO)
    overrides = {
        "optimizer": job.candidate.optimizer,
        "lora_rank": job.rank,
        "learning_rate": job.rate,
        "seed": job.seed,
        "steps": STEPS,
        "learning_rate_scheduler": "cosine",
        "samples": [],
        "validate_every": STEPS,
        "validation_timesteps_per_picture": 2,
        "rank_every": STEPS,
        "checkpoint_every": 0,
        "cache_dir": str(ROOT / "build" / "benchmark_cache"),
    }
    began = time.monotonic()
    with tempfile.TemporaryDirectory() as folder:
        values = {**overrides, "output_dir": folder}
        pairs = [f"{key}={json.dumps(value)}" for key, value in values.items()]
        try:
            result = train(load_config(PRESET, pairs))
        except NonFiniteError:
            return {"held_out": 9.0, "diverged": True}
    if result.interrupted:
        raise SystemExit("Stopped; the run that was under way is not recorded.")
    return {
        "held_out": result.validation_after,
        "before": result.validation_before,
        "effective_rank_mean": result.mean_effective_rank,
        "effective_rank_lowest": result.lowest_effective_rank,
        "seconds": round(time.monotonic() - began, 1),
    }


def report(done: dict[str, dict[str, Any]]) -> str:
    """Markdown table: every candidate at its best rate, with the spread of seeds."""
    lines = [
        "| rank | rule | best rate | held-out loss, mean | lowest .. highest | seeds "
        "| effective rank, mean / lowest |",
        "|---|---|---|---|---|---|---|",
    ]
    for rank in RANKS:
        for candidate in CANDIDATES:
            lines.append(row_of(candidate, rank, done))
    return "\n".join(lines)


def row_of(candidate: Candidate, rank: int, done: dict[str, dict[str, Any]]) -> str:
    """One line of the report; what was not run says so."""
    rates = wanted_rates(candidate, rank, done)
    losses = mean_losses(candidate, rank, rates, done)
    known = [loss for loss in losses if not math.isnan(loss)]
    if not known:
        return f"| {rank} | {candidate.label} | not run | | | 0 | |"
    best = losses.index(min(known))
    rows = finished(candidate, rank, rates[best], done)
    found = [row["held_out"] for row in rows]
    edge = "" if 0 < best < len(rates) - 1 else " (edge of the sweep)"
    mean = statistics.fmean(row.get("effective_rank_mean", math.nan) for row in rows)
    lowest = min(row.get("effective_rank_lowest", math.nan) for row in rows)
    return (
        f"| {rank} | {candidate.label} | {rates[best]:.3g}{edge} "
        f"| {statistics.fmean(found):.4f} | {min(found):.4f} .. {max(found):.4f} "
        f"| {len(rows)} | {mean:.1f} / {lowest:.1f} |"
    )


if __name__ == "__main__":
    main()
