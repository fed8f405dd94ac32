"""Sample images of a run: a row for each prompt, a column for each step."""

from __future__ import annotations

import dataclasses
from pathlib import Path

from .run_record import RunRecord

__all__ = ["NO_SAMPLES", "SampleGrid", "sample_grid"]

NO_SAMPLES = (
    "There are no sample images yet. Their prompts and their interval are on the tab "
    "Sampling."
)


@dataclasses.dataclass(frozen=True)
class SampleGrid:
    """Table of sample images.

    Attributes:
        prompts: prompt of each row.
        steps: training step of each column, in ascending order.
        paths: image files by row and column.
    """

    prompts: tuple[str, ...] = ()
    steps: tuple[int, ...] = ()
    paths: dict[tuple[int, int], Path] = dataclasses.field(default_factory=dict)


def sample_grid(record: RunRecord) -> SampleGrid:
    """Return the sample images of a run."""
    rounds = sorted(record.rounds, key=lambda found: found.step)
    paths = {
        (row, column): path
        for column, found in enumerate(rounds)
        for row, path in enumerate(found.files)
    }
    known = [str(sample["prompt"]) for sample in record.config.get("samples", ())]
    rows = 1 + max((row for row, _ in paths), default=-1)
    prompts = (*known, *[""] * rows)[:rows]
    return SampleGrid(prompts, tuple(found.step for found in rounds), paths)
