"""Effective rank of runs side by side, by section of the model.

    python benchmarks/ranks_by_section.py runs/demo_adamw runs/demo_stiefel_lora

reads what the runs measured last. A section's row gives mean and lowest of its blocks;
every block's own curve is in the run's TensorBoard.
"""

from __future__ import annotations

import argparse
import json
import statistics
from collections import defaultdict
from pathlib import Path

PREFIX = "effective_rank."


def main() -> None:
    """Print a Markdown table."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("runs", type=Path, nargs="+", help="folders of runs")
    runs = parser.parse_args().runs
    columns = [last_ranks(run) for run in runs]
    print("| section | blocks | " + " | ".join(run.name for run in runs) + " |")
    print("|---|---|" + "---|" * len(runs))
    for section, ranks in columns[0].items():
        cells = [
            f"{statistics.fmean(column[section]):.1f} / {min(column[section]):.1f}"
            for column in columns
        ]
        print(f"| {section} | {len(ranks)} | {' | '.join(cells)} |")


def last_ranks(run: Path) -> dict[str, list[float]]:
    """Section -> effective rank of each of its blocks when it was last measured."""
    lines = (run / "events.jsonl").read_text("utf-8").splitlines()
    events = [json.loads(line) for line in lines]
    last = [event["values"] for event in events if event["type"] == "ranks"][-1]
    sections: dict[str, list[float]] = defaultdict(list)
    for tag, value in last.items():
        if tag.startswith(PREFIX):
            sections[tag.removeprefix(PREFIX).partition("/")[0]].append(value)
    return dict(sorted(sections.items()))


if __name__ == "__main__":
    main()
