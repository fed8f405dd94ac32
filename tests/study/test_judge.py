"""The committed judge of samples, and the table of scored samples."""

from __future__ import annotations

from types import ModuleType

import numpy as np
import pytest
import torch
from PIL import Image


@pytest.fixture(scope="module")
def drawings(study: ModuleType) -> torch.Tensor:
    """Fluent 3D drawings of the validation concepts."""
    paths = study.tasks.validation_drawings()
    images = [np.asarray(Image.open(path).convert("RGB")) for path in paths]
    return torch.from_numpy(np.stack(images)).permute(0, 3, 1, 2).float() / 255


def test_the_judge_recognizes_drawings_that_it_was_not_trained_on(
    study: ModuleType, drawings: torch.Tensor
) -> None:
    concepts, style = study.judge.load_judge().scores(drawings)
    right = concepts.argmax(1) == torch.arange(len(drawings))
    assert right.float().mean() >= study.judge.BAR
    assert (style > study.judge.STYLED).float().mean() >= 0.85
    # Gray noise shows no concept in the style.
    noise = torch.rand(16, 3, 64, 64, generator=torch.Generator().manual_seed(0))
    assert (study.judge.load_judge().scores(noise)[1] < 0.5).all()


def _row(study: ModuleType, both: float, base: bool) -> dict:
    part = {"concept": 0.5, "style": 0.5, "both": both}
    row = {"lora": part, "numerics": study.one_run.NUMERICS}
    return row | ({"base": {**part, "both": 0.01}} if base else {})


def test_the_table_compares_samples_seed_by_seed(study: ModuleType) -> None:
    samples, stages = study.samples, study.stages
    done: dict[str, dict] = {}
    for method, rank in samples.METHODS:
        cell = stages.Cell("sdxl", method, rank, 120, "large", samples.RATES[method])
        for rate in cell.sweep({}):
            run = cell.runs(rate)[0]
            loss = 1 + abs(rate / method.rate - 1)
            done[run.key] = {"by_image": [loss] * 4, "numerics": 1}
        share = 0.1 if method == stages.TUNED else 0.3
        for run in cell.runs(method.rate):
            first = run.seed == 1 and method == stages.TUNED
            row = _row(study, share + 0.01 * run.seed, first)
            done[samples.Samples(run).key] = row
    lines = samples.samples_table(done)[2:]
    assert lines == [
        "| sdxl | without a LoRA | - | 50.0 % | 50.0 % | 1.0 % | - |",
        "| sdxl | AdamW, beta1 0.8, rank 16 | 3 | 50.0 % | 50.0 % | 12.0 % | - |",
        "| sdxl | Stiefel LoRA, rank 16 | 3 | 50.0 % | 50.0 % | 32.0 % "
        "| +20.00 points (+20.00 to +20.00) |",
    ]
