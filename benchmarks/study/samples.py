"""Samples of trained LoRAs, scored by the judge (see judge.py).

    python benchmarks/study samples

Each LoRA of ``large`` is trained at its best rate and samples the captions of the half
of the validation concepts on which no rate was selected, all with seed 0. A row holds
how many samples show their concept, the style Fluent 3D, and both, and the same for the
base model with the same seeds.
"""

from __future__ import annotations

import dataclasses
import functools
import itertools
import json
import statistics
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any
from unittest import mock

import numpy as np
from demo_runs import LOSS, PRESETS, Rows
from one_run import Method, Run
from PIL import Image
from stages import BASES, FIRST, PRODUCT, SEEDS, TUNED, Cell
from tables import interval_text, paired_lines
from tasks import task_settings, validation_drawings

__all__ = ["CELLS", "Samples", "next_samples", "samples_table"]

STEPS, GUIDANCE = 20, 2.0
PARTS = ("concept", "style", "both")
METHODS = ((TUNED, 16), (PRODUCT, 16))
RATES = {TUNED: 3, PRODUCT: FIRST}
CELLS = {f"{method.shown}, rank {rank}": (method, rank) for method, rank in METHODS}


@dataclasses.dataclass(frozen=True)
class Samples:
    """One LoRA of the style whose samples are scored."""

    run: Run

    @property
    def key(self) -> str:
        """As a line of text."""
        return self.run.key.replace("| large |", "| samples |")

    def train(self) -> dict[str, Any]:
        """Train, sample before and after, and score."""
        captions = [
            path.with_suffix(".txt").read_text("utf-8").strip()
            for path in validation_drawings()[1::2]
        ]
        steps = {"lora": self.run.steps}
        # The samples of a base model are the same in all of its runs.
        if self.run.seed == SEEDS[0] and self.run.method == METHODS[0][0]:
            steps["base"] = 0
        with tempfile.TemporaryDirectory() as folder:
            made = sample(self.run, captions, Path(folder), before="base" in steps)
            scores = {
                name: _scored(made, step, len(captions)) for name, step in steps.items()
            }
        return {LOSS: 1 - scores["lora"]["both"], **scores, **self.run.origin()}


def sample(run: Run, captions: list[str], folder: Path, before: bool = True) -> Path:
    """Train, and sample each caption. Return the folder of the samples.

    Args:
        run: the training.
        captions: prompts.
        folder: where the run folder is created.
        before: whether to sample before the first step, too.
    """
    from stiefel_lora.config import load_config
    from stiefel_lora.training import train
    from stiefel_lora.training.logging.monitor import Monitor

    sampled = Monitor.sample

    def sample_at(monitor: Any, step: int) -> None:
        if step or before:
            sampled(monitor, step)

    entry = {"steps": STEPS, "guidance": GUIDANCE}
    settings = {
        **run.own_settings(),
        **task_settings(run.task),
        "samples": [{"prompt": caption, **entry} for caption in captions],
        "sample_every": run.steps,
        "validate_every": 0,
        "output_dir": str(folder),
    }
    pairs = [f"{key}={json.dumps(value)}" for key, value in settings.items()]
    with mock.patch.object(Monitor, "sample", sample_at):
        result = train(load_config(PRESETS[run.base], pairs))
    if result.interrupted:
        raise SystemExit("Stopped; the run that was under way is not recorded.")
    return result.run_dir / "samples"


@functools.cache
def _judge() -> Any:
    from judge import BAR, least_accuracy, load_judge

    judge = load_judge()
    lowest = least_accuracy(judge)
    if lowest < BAR:
        raise SystemExit(f"The judge's accuracy is {lowest} on real images, not {BAR}.")
    return judge


def _scored(folder: Path, step: int, count: int) -> dict[str, Any]:
    """Shares of the samples of one step that the judge recognizes."""
    import torch
    from judge import STYLED

    images = [
        np.asarray(Image.open(folder / f"step-{step:06d}-{index}.png").convert("RGB"))
        for index in range(count)
    ]
    pixels = torch.from_numpy(np.stack(images)).permute(0, 3, 1, 2).float() / 255
    concepts, style = _judge().scores(pixels)
    # The judge's concepts are in the order of all validation drawings.
    shown = concepts.argmax(1) == 1 + 2 * torch.arange(count)
    styled = style > STYLED
    return {
        "concept": shown.float().mean().item(),
        "style": styled.float().mean().item(),
        "both": (shown & styled).float().mean().item(),
    }


def next_samples(done: Rows, tried: set[str]) -> Samples | None:
    """The next LoRA whose rate is known."""
    for seed, base, cell in itertools.product(SEEDS, BASES, CELLS.values()):
        found = _samples(done, base, cell, seed)
        if found and found.key not in tried and found.key not in done:
            return found
    return None


def _samples(
    done: Rows, base: str, kind: tuple[Method, int], seed: int
) -> Samples | None:
    # The rates of the stages that these methods are in.
    cell = Cell(base, *kind, 120, "large", RATES[kind[0]])
    rate = cell.best(done)
    return None if rate is None else Samples(cell.runs(rate)[SEEDS.index(seed)])


def samples_table(done: Rows) -> list[str]:
    """Shares of samples of the base models and the LoRAs that the judge recognizes."""
    lines = [
        "| base | method | seeds | concept | style | both | both, against the first |",
        "|---|---|---|---|---|---|---|",
    ]
    for base in BASES:
        first = _samples(done, base, METHODS[0], SEEDS[0])
        row = done.get(first.key) if first else None
        if row:
            shares = [f"{100 * row['base'][part]:.1f} %" for part in PARTS]
            lines.append(f"| {base} | without a LoRA | - | {' | '.join(shares)} | - |")
    return [*lines, *paired_lines(done, CELLS, _samples, _line)]


def _line(
    base: str, label: str, own: Mapping[int, dict], rival: Mapping[int, dict]
) -> str:
    def mean(part: str) -> str:
        return f"{100 * statistics.fmean(r['lora'][part] for r in own.values()):.1f} %"

    difference = "-"
    if own is not rival and set(own) & set(rival):
        pairs = [
            (own[s]["lora"]["both"], rival[s]["lora"]["both"])
            for s in own
            if s in rival
        ]
        points = [100 * (a - b) for a, b in pairs]
        difference = " ".join(interval_text(points)).replace(" %", " points")
    cells = (base, label, str(len(own)), *map(mean, PARTS))
    return "| " + " | ".join([*cells, difference]) + " |"
