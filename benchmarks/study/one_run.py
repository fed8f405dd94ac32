"""One run of the study through the package's own trainer, and what is kept of it."""

from __future__ import annotations

import contextlib
import dataclasses
import json
import logging
import math
import statistics
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any
from unittest import mock

from demo_runs import PRESETS, ROOT, stable_ranks
from tasks import task_settings

__all__ = ["NUMERICS", "Method", "Run", "halves_of", "validating_with"]

NUMERICS = 1
"""Raised when a change of the package changes the numbers of any run."""

# Neighbors in the validation set, which is sorted by name.
IMAGES_OF_CONCEPT = {"concepts": 2}

# Losses do not depend on it, but for rounding; small batches are slow.
VALIDATION_BATCH = 80
EVALUATIONS = 6
"""Of the validation loss, at equal distances; the last one is the final loss."""


@dataclasses.dataclass(frozen=True)
class Method:
    """An optimizer as the study's tables call it, and the rate its sweep begins at."""

    label: str
    name: str
    rate: float
    options: tuple[tuple[str, Any], ...] = ()
    settings: tuple[tuple[str, Any], ...] = ()
    """Of the config beside the optimizer's own, for example a warm-up."""

    @property
    def shown(self) -> str:
        """Name in tables. The label in keys of rows is older for some methods."""
        for label, name in _SHOWN:
            if self.label.startswith(label):
                return name + self.label.removeprefix(label)
        return self.label


_SHOWN = (
    ("Stiefel LoRA, step 2", "Stiefel LoRA"),
    ("Stiefel LoRA, product", "Stiefel LoRA, momentum 0.9"),
    ("Stiefel LoRA, factors", "Stiefel LoRA, step per factor"),
    ("Stiefel LoRA", "Stiefel LoRA, earlier step"),
    ("Product, ", "Stiefel LoRA (trial), "),
)


@dataclasses.dataclass(frozen=True)
class Run:
    """What makes a run the same run."""

    base: str
    method: Method
    rank: int
    rate: float
    seed: int
    steps: int = 120
    task: str = "style"

    @property
    def key(self) -> str:
        """As a line of text."""
        return " | ".join(
            [
                self.base,
                self.task,
                self.method.label,
                f"rank {self.rank}",
                f"lr {self.rate:.3g}",
                f"{self.steps} steps",
                f"seed {self.seed}",
            ]
        )

    def train(self) -> dict[str, Any]:
        """Train; a run that diverged is a result too."""
        from stiefel_lora._exceptions import NonFiniteError

        began, processor = time.monotonic(), time.process_time()
        seen = _Recorder()
        with tempfile.TemporaryDirectory() as folder, validating_with(seen.loss):
            try:
                result = self.trained(Path(folder))
            except NonFiniteError:
                return {"held_out": 9.0, "diverged": True, **self.origin()}
            if len(seen.curve) != EVALUATIONS + 1:
                raise RuntimeError(f"{len(seen.curve)} evaluations of {self.key}")
            ranks = stable_ranks(result.run_dir / "events.jsonl")
        return {
            "held_out": result.validation_after,
            "final": [round(part, 6) for part in _halves(seen.by_image)],
            "curve": [[round(part, 6) for part in point] for point in seen.curve],
            "by_image": [round(loss, 5) for loss in seen.by_image],
            "effective_rank_mean": result.mean_effective_rank,
            "effective_rank_lowest": result.lowest_effective_rank,
            "stable_rank_mean": statistics.fmean(ranks),
            "seconds": round(time.monotonic() - began, 1),
            "processor_seconds": round(time.process_time() - processor, 1),
            **self.origin(),
        }

    def trained(self, folder: Path, settings: Mapping[str, Any] | None = None) -> Any:
        """Train into a folder, with settings in place of the run's own.

        Raises:
            SystemExit: stopped before the last step.
        """
        from stiefel_lora.config import load_config
        from stiefel_lora.training import train

        logging.disable(logging.INFO)
        values = {**self.own_settings(), **task_settings(self.task), **(settings or {})}
        values["output_dir"] = str(folder)
        pairs = [f"{key}={json.dumps(value)}" for key, value in values.items()]
        result = train(load_config(PRESETS[self.base], pairs))
        if result.interrupted:
            raise SystemExit("Stopped; the run that was under way is not recorded.")
        return result

    def own_settings(self) -> dict[str, Any]:
        """Settings that make this run what it is, without those of its task."""
        return {
            "optimizer": {"name": self.method.name, **dict(self.method.options)},
            "lora_rank": self.rank,
            "learning_rate": self.rate,
            "learning_rate_scheduler": "cosine",
            "seed": self.seed,
            "steps": self.steps,
            "samples": [],
            "validate_every": math.ceil(self.steps / EVALUATIONS),
            "validation_timesteps_per_picture": 2,
            "rank_every": self.steps,
            "checkpoint_every": 0,
            "output_formats": ["peft"],
            "cache_dir": str(ROOT / "build" / "study_cache"),
            **dict(self.method.settings),
        }

    def origin(self) -> dict[str, Any]:
        """Commit and numerics of a row."""
        commit = subprocess.run(
            ["git", "rev-parse", "--short=12", "HEAD"],
            cwd=ROOT,
            capture_output=True,
            text=True,
            check=False,
        )
        return {"numerics": NUMERICS, "commit": commit.stdout.strip() or "unknown"}


def halves_of(row: Mapping[str, Any], task: str) -> tuple[float, float]:
    """Final losses on the two halves of the validation concepts.

    A rate is chosen on the first half and reported on the second. Both images of an
    invented word are in one half; split by image, the halves would be Noto's drawings
    and Twemoji's.
    """
    if row.get("diverged"):
        return (row["held_out"],) * 2
    return _halves(row["by_image"], IMAGES_OF_CONCEPT.get(task, 1))


def _halves(losses: Sequence[float], together: int = 1) -> tuple[float, float]:
    parts: tuple[list[float], list[float]] = [], []
    for index, loss in enumerate(losses):
        parts[index // together % 2].append(loss)
    return statistics.fmean(parts[0]), statistics.fmean(parts[1])


class _Recorder:
    """In place of ``Validation.loss``: the loss of each image, of a part on the way.

    The last evaluation measures every image. Those before it take a quarter, which is
    enough for the shape of the curve; validation would be half of a run's time.
    """

    def __init__(self) -> None:
        self.curve: list[tuple[float, float]] = []
        self.by_image: list[float] = []

    def loss(self, validation: Any, denoiser: Any) -> float:
        """Evaluate in large batches; return the mean over the images measured."""
        validation._batch_size = VALIDATION_BATCH
        some = [i for i in range(len(validation._images.sizes)) if i % 8 < 2]
        last = len(self.curve) == EVALUATIONS
        jobs = validation._jobs
        if not last:
            validation._jobs = lambda: _only(jobs(), set(some))
        found = validation.losses(denoiser).mean(1).tolist()
        validation._jobs = jobs
        self.curve.append(_halves([found[i] for i in some]))
        if last:
            self.by_image = found
        return statistics.fmean(found if last else [found[i] for i in some])


def _only(
    batches: Iterable[list[tuple[int, int]]], images: set[int]
) -> Iterator[list[tuple[int, int]]]:
    for batch in batches:
        if kept := [job for job in batch if job[0] in images]:
            yield kept


@contextlib.contextmanager
def validating_with(measure: Callable[[Any, Any], float]) -> Iterator[None]:
    """Call ``measure(validation, denoiser)`` in place of ``Validation.loss``."""
    from stiefel_lora.training.validation import Validation

    # A plain function, so that it becomes a method of the class.
    def loss(validation: Any, denoiser: Any) -> float:
        return measure(validation, denoiser)

    with mock.patch.object(Validation, "loss", loss):
        yield
