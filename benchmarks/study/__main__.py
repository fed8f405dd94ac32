"""Compare optimizers by the LoRAs that they train on the demo bases.

    python benchmarks/study run --stage product --minutes 60
    python benchmarks/study stack
    python benchmarks/study strength
    python benchmarks/study judge
    python benchmarks/study samples
    python benchmarks/study report [--into docs/evidence.md]
    python benchmarks/study sheet --base flux --output sheet.png
    python benchmarks/study ranks --output ranks.png

A run is one JSON line in ``results/runs.jsonl``; what is there is not run again, and
several processes share the work. Every row holds the whole curve of the validation
loss, the loss of every validation image at the end, the commit and NUMERICS. A table
never mixes two values of NUMERICS.
"""

from __future__ import annotations

import argparse
import math
import sys
from pathlib import Path

HERE = Path(__file__).resolve().parent
sys.path[:0] = [str(HERE), str(HERE.parent)]

from demo_runs import read_rows, run_missing  # noqa: E402
from ranks import write_ranks  # noqa: E402
from samples import next_samples, samples_table  # noqa: E402
from sheet import write_sheet  # noqa: E402
from stack import next_stack, stack_table  # noqa: E402
from stages import BASES, STAGES  # noqa: E402
from strength import next_strength, strength_table  # noqa: E402
from tables import fill_page, fill_table, report  # noqa: E402

RESULTS = HERE / "results"
IMAGES = {"sheet": write_sheet, "ranks": write_ranks}
OTHERS = {
    "stack": (next_stack, stack_table),
    "strength": (next_strength, strength_table),
    "samples": (next_samples, samples_table),
}
"""Next run and table of what is not a stage."""


def main() -> None:
    """Run what is missing of a stage, or print all tables."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("action", choices=("run", *OTHERS, "report", "judge", *IMAGES))
    parser.add_argument("--stage", choices=list(STAGES), default=next(iter(STAGES)))
    parser.add_argument("--minutes", type=float, default=math.inf)
    parser.add_argument("--results", type=Path, default=RESULTS)
    parser.add_argument("--base", choices=BASES, default=BASES[0])
    parser.add_argument("--output", type=Path, help="default: ACTION.png")
    parser.add_argument("--into", type=Path, help="page whose tables are replaced")
    arguments = parser.parse_args()
    path = arguments.results / "runs.jsonl"
    if arguments.action == "run":
        run_missing(path, arguments.minutes, STAGES[arguments.stage].next_run)
        return
    if arguments.action in OTHERS:
        run_missing(path, arguments.minutes, OTHERS[arguments.action][0])
        return
    if arguments.action == "judge":
        from judge import train_judge

        train_judge()
        return
    if arguments.action in IMAGES:
        target = arguments.output or Path(f"{arguments.action}.png")
        IMAGES[arguments.action](arguments.base, read_rows(path), target)
        return
    if arguments.into:
        page = fill_page(arguments.into.read_text("utf-8"), STAGES, read_rows(path))
        for name, (_, table) in OTHERS.items():
            page = fill_table(page, name, table(read_rows(path)))
        arguments.into.write_text(page, "utf-8")
        return
    for stage in STAGES.values():
        print(report(stage, read_rows(path)))
    for _, table in OTHERS.values():
        print("\n".join(table(read_rows(path))))


if __name__ == "__main__":
    main()
