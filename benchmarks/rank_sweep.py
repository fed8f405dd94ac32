"""AdamW and Stiefel LoRA at four ranks and two learning rates each, on the demo.

    python benchmarks/rank_sweep.py

Sixteen trainings by the batch runner; a second call resumes, and when all are done it
only writes the page, the table and the figures to docs/examples/rank_sweep/. The rates
are those that were best at rank 16 and at rank 64 in docs/benchmarks.md.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from stiefel_lora.jobs import JobState, make_plans, run_batch, write_report

ROOT = Path(__file__).resolve().parents[1]
CONFIG = ROOT / "docs/examples/rank_sweep.json"
SWEEPS = (
    "lora_rank=4,8,16,32",
    "optimizer.name+learning_rate="
    "adamw+0.0015,adamw+0.003,stiefel_lora+0.01,stiefel_lora+0.02",
)


def main() -> int:
    """Train what is left, then publish."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--runs", type=Path, default=ROOT / "runs/rank_sweep")
    parser.add_argument("--into", type=Path, default=CONFIG.with_suffix(""))
    arguments = parser.parse_args()
    runs = arguments.runs.resolve()
    plans = make_plans([str(CONFIG)], [f"output_dir={runs.as_posix()}"], SWEEPS)
    jobs = run_batch(runs / "batch", plans, [""])
    if any(job.state is not JobState.DONE for job in jobs):
        print(
            "Not all jobs are finished. Run the same command to resume.",
            file=sys.stderr,
        )
        return 1
    _, page = write_report(arguments.into, jobs, "Rank sweep on the demo", links=False)
    print(page)
    return 0


if __name__ == "__main__":
    sys.exit(main())
