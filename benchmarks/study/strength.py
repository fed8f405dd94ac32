"""New concepts at several weights of the LoRA: the trained drawing against the other.

A LoRA of ``concepts`` is trained on Noto's drawings and validated on them (mirrored and
cropped) and on Twemoji's. If a method ends lower on one and higher on the other, it may
only be stronger, which a smaller weight undoes, or bind the concept to its drawing. One
row holds both losses at each weight of the LoRA.
"""

from __future__ import annotations

import dataclasses
import itertools
import statistics
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from demo_runs import LOSS, Rows
from one_run import EVALUATIONS, VALIDATION_BATCH, Run, validating_with
from stages import ADAMW, BASES, FACTORS, HEAVY, PRODUCT, SEEDS, Cell, by_label
from tables import interval_text, paired_lines

__all__ = ["WEIGHTS", "Strength", "next_strength", "strength_table"]

WEIGHTS = (0.0, 0.25, 0.5, 0.75, 1.0, 1.25)
METHODS = (ADAMW, PRODUCT, HEAVY, FACTORS)
RANK, STEPS = 16, 120


@dataclasses.dataclass(frozen=True)
class Strength:
    """One LoRA of new concepts, measured at all weights."""

    run: Run

    @property
    def key(self) -> str:
        """As a line of text."""
        return self.run.key.replace("| concepts |", "| strength |")

    def train(self) -> dict[str, Any]:
        """Train, then measure both drawings at each weight."""
        seen = _AllWeights()
        with tempfile.TemporaryDirectory() as folder, validating_with(seen.loss):
            self.run.trained(Path(folder))
        found = {"weights": WEIGHTS, "same": seen.same, "other": seen.other}
        return {LOSS: seen.same[4], **found, **self.run.origin()}


class _AllWeights:
    """In place of the last validation: the losses at all weights."""

    def __init__(self) -> None:
        self._calls = 0
        self.same: list[float] = []
        self.other: list[float] = []

    def loss(self, validation: Any, denoiser: Any) -> float:
        """Return a number of no meaning until the last call, which measures all."""
        self._calls += 1
        if self._calls <= EVALUATIONS:
            return 1.0
        validation._batch_size = VALIDATION_BATCH
        modules = list(_lora_layers(denoiser))
        scales = [module.scaling["default"] for module in modules]
        for weight in WEIGHTS:
            for module, scale in zip(modules, scales, strict=True):
                module.scaling["default"] = scale * weight
            losses = np.asarray(validation.losses(denoiser))
            # In order of file names: word_noto, then word_twemoji.
            self.same.append(round(float(losses[0::2].mean()), 6))
            self.other.append(round(float(losses[1::2].mean()), 6))
        return self.same[4]


def _lora_layers(denoiser: Any) -> Iterator[Any]:
    for module in denoiser.modules():
        if "default" in getattr(module, "lora_A", {}):
            yield module


def next_strength(done: Rows, tried: set[str]) -> Strength | None:
    """The next LoRA whose rate is known."""
    for seed, base, method in itertools.product(SEEDS, BASES, METHODS):
        found = _strength(done, base, method, seed)
        if found and found.key not in tried and found.key not in done:
            return found
    return None


def _strength(done: Rows, base: str, method: Any, seed: int) -> Strength | None:
    cell = Cell(base, method, RANK, STEPS, "concepts")
    rate = cell.best(done)
    return None if rate is None else Strength(cell.runs(rate)[SEEDS.index(seed)])


def strength_table(done: Rows) -> list[str]:
    """Losses of both drawings, and the weight at which their mean is lowest."""
    lines = [
        "| base | method | seeds | same drawing | other drawing | best weight "
        "| mean of both there | same drawing there | other drawing there "
        "| other drawing where the same is AdamW's |",
        "|---|---|---|---|---|---|---|---|---|---|",
    ]
    return [*lines, *paired_lines(done, by_label(METHODS), _strength, _line)]


def _line(
    base: str, label: str, own: Mapping[int, dict], rival: Mapping[int, dict]
) -> str:
    def mean(values: Sequence[float]) -> str:
        return f"{statistics.fmean(values):.4f}"

    best = {seed: _best(row) for seed, row in own.items()}
    lowest = mean([both for _, both in best.values()])
    if own is not rival and len(own) > 1 and set(own) <= set(rival):
        pairs = [(best[seed][1], _best(rival[seed])[1]) for seed in own]
        lowest += ": " + " ".join(interval_text([100 * (a / b - 1) for a, b in pairs]))
    equal = [
        _other_at(row, rival[s]["same"][4]) for s, row in own.items() if s in rival
    ]
    reached = [value for value in equal if value is not None]
    at = {seed: _at(row, best[seed][0]) for seed, row in own.items()}
    return (
        f"| {base} | {label} | {len(own)} "
        f"| {mean([row['same'][4] for row in own.values()])} "
        f"| {mean([row['other'][4] for row in own.values()])} "
        f"| {statistics.fmean(w for w, _ in best.values()):.2f} | {lowest} "
        f"| {mean([pair[0] for pair in at.values()])} "
        f"| {mean([pair[1] for pair in at.values()])} "
        f"| {mean(reached) if len(reached) == len(own) else '-'} |"
    )


def _best(row: dict) -> tuple[float, float]:
    """Weight with the lowest mean of both drawings, and that mean."""
    means = [(a + b) / 2 for a, b in zip(row["same"], row["other"], strict=True)]
    place = means.index(min(means))
    return WEIGHTS[place], means[place]


def _at(row: dict, weight: float) -> tuple[float, float]:
    place = WEIGHTS.index(weight)
    return row["same"][place], row["other"][place]


def _other_at(row: dict, target: float) -> float | None:
    """Loss of the other drawing at the smallest weight with this loss of the same."""
    for place in range(1, len(WEIGHTS)):
        before, after = row["same"][place - 1], row["same"][place]
        if after <= target:
            share = (before - target) / (before - after) if before > after else 1.0
            low, high = row["other"][place - 1], row["other"][place]
            return low + share * (high - low)
    return None
