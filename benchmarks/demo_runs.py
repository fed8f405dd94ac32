"""Runs of the demo for the benchmarks: resumable, and shared between processes.

A run in the results file is not repeated, and one that another process has started is
skipped, so a script can be stopped at any time and started several times in parallel.
"""

from __future__ import annotations

import argparse
import datetime
import hashlib
import json
import logging
import math
import os
import platform
import statistics
import tempfile
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Protocol

from filelock import FileLock, Timeout

__all__ = [
    "LOSS",
    "Job",
    "Rows",
    "read_rows",
    "run_missing",
    "run_or_report",
    "stable_ranks",
    "train_demo",
]

ROOT = Path(__file__).resolve().parent.parent
PRESETS = {
    "sdxl": ROOT / "training_presets" / "SDXL" / "demo_stiefel_lora.json",
    "flux": ROOT / "training_presets" / "FLUX" / "demo_flux_stiefel_lora.json",
}

LOSS = "held_out"
"""Key of the final validation loss in a row."""

Rows = dict[str, dict[str, Any]]
"""Results of finished runs by key."""


class Job(Protocol):
    """One training run."""

    @property
    def key(self) -> str:
        """Identity of a finished run."""
        ...

    def train(self) -> dict[str, Any]:
        """Train and return what is to be kept."""
        ...


def read_rows(path: Path) -> Rows:
    """Finished runs by key."""
    if not path.exists():
        return {}
    rows = (json.loads(line) for line in path.read_text("utf-8").splitlines())
    return {row["key"]: row for row in rows}


def run_or_report(
    doc: str,
    next_job: Callable[[Rows, set[str]], Job | None],
    report: Callable[[Rows], str],
) -> None:
    """Command line of a benchmark: run what is missing, or print the table."""
    parser = argparse.ArgumentParser(description=doc.split("\n")[0])
    parser.add_argument("action", choices=("run", "report"))
    parser.add_argument("--results", type=Path, required=True)
    parser.add_argument("--minutes", type=float, default=math.inf)
    arguments = parser.parse_args()
    if arguments.action == "run":
        run_missing(arguments.results, arguments.minutes, next_job)
    print(report(read_rows(arguments.results)))


def run_missing(
    path: Path, minutes: float, next_job: Callable[[Rows, set[str]], Job | None]
) -> None:
    """Train until there is no next job or the time is over.

    Args:
        path: results file, JSON lines.
        minutes: no run is begun after that.
        next_job: the first job whose key is neither in the rows nor in the set.
    """
    claims = path.with_suffix(".claims")
    claims.mkdir(parents=True, exist_ok=True)
    deadline = time.monotonic() + 60 * minutes
    tried: set[str] = set()
    while time.monotonic() < deadline:
        job = next_job(read_rows(path), tried)
        if job is None:
            return
        tried.add(job.key)
        name = hashlib.sha256(job.key.encode()).hexdigest()[:16]
        try:
            with FileLock(claims / f"{name}.lock", timeout=0):
                if job.key not in read_rows(path):
                    _record(path, {"key": job.key, **job.train(), **_where()})
        except Timeout:
            continue


def _record(path: Path, row: dict[str, Any]) -> None:
    with path.open("a", encoding="utf-8") as file:
        file.write(json.dumps(row) + "\n")
    print(f"{row['key']}: {row[LOSS]:.4f}", flush=True)


def _where() -> dict[str, Any]:
    """Machine, versions and date."""
    import torch

    return {
        "machine": f"{platform.machine()}, {os.cpu_count()} cores",
        "torch": torch.__version__,
        "date": datetime.date.today().isoformat(),
    }


def train_demo(overrides: Mapping[str, Any], base: str = "sdxl") -> dict[str, Any]:
    """One run through the package's own trainer, measured once at the end.

    Args:
        overrides: settings by dotted name, beside those of the demo preset.
        base: key of PRESETS.
    """
    from stiefel_lora._exceptions import NonFiniteError
    from stiefel_lora.config import load_config
    from stiefel_lora.training import train

    logging.disable(logging.INFO)
    steps = overrides["steps"]
    fixed = {
        "samples": [],
        "validate_every": steps,
        "validation_timesteps_per_picture": 2,
        "rank_every": steps,
        "checkpoint_every": 0,
        # The one format that can hold a DoRA.
        "output_formats": ["peft"],
        "cache_dir": str(ROOT / "build" / "benchmark_cache"),
    }
    began = time.monotonic()
    with tempfile.TemporaryDirectory() as folder:
        values = {**fixed, **overrides, "output_dir": folder}
        pairs = [f"{key}={json.dumps(value)}" for key, value in values.items()]
        try:
            result = train(load_config(PRESETS[base], pairs))
        except NonFiniteError:
            return {LOSS: 9.0, "diverged": True}
        stable = stable_ranks(result.run_dir / "events.jsonl")
    if result.interrupted:
        raise SystemExit("Stopped; the run that was under way is not recorded.")
    return {
        LOSS: result.validation_after,
        "before": result.validation_before,
        "effective_rank_mean": result.mean_effective_rank,
        "effective_rank_lowest": result.lowest_effective_rank,
        "stable_rank_mean": statistics.fmean(stable),
        "seconds": round(time.monotonic() - began, 1),
    }


def stable_ranks(events: Path) -> list[float]:
    """Stable rank of every block when it was last measured."""
    lines = [json.loads(line) for line in events.read_text("utf-8").splitlines()]
    last = [line["values"] for line in lines if line["type"] == "ranks"][-1]
    return [value for tag, value in last.items() if tag.startswith("stable_rank.")]
