"""Effective rank of every block over time, for AdamW and Stiefel LoRA at rank 64.

    python benchmarks/study ranks --output docs/images/rank_comparison.png

Trains both on ``large`` at the rates that the study chose, with seed 1, so that the
image shows runs of the tables in docs/evidence.md.
"""

from __future__ import annotations

import sys
import tempfile
from pathlib import Path

from demo_runs import ROOT, Rows
from stages import ADAMW, PRODUCT, Cell

__all__ = ["write_ranks"]

RANK, STEPS, EVERY = 64, 120, 3


def write_ranks(base: str, rows: Rows, target: Path) -> None:
    """Train both, and draw their heat maps beside each other.

    Raises:
        ValueError: a sweep whose best rate is not known yet.
    """
    sys.path.append(str(ROOT / "scripts"))
    from make_rank_image import draw

    cells = [Cell(base, method, RANK, STEPS) for method in (ADAMW, PRODUCT)]
    with tempfile.TemporaryDirectory() as folder:
        runs = []
        for number, cell in enumerate(cells):
            rate = cell.best(rows)
            if rate is None:
                raise ValueError(f"The sweep of {cell.method.label} is not complete.")
            settings = {"rank_every": EVERY, "validate_every": 0}
            result = cell.runs(rate)[0].trained(Path(folder) / str(number), settings)
            runs.append(result.run_dir)
        draw(runs, [cell.method.shown for cell in cells], target)
