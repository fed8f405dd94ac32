"""A run that ends when the validation loss no longer falls."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
import torch

from helpers.fixtures import StopAfter
from helpers.runs import assert_same_factors, tiny_config
from stiefel_lora import ConfigError
from stiefel_lora.config import TrainConfig, parse_config
from stiefel_lora.files import load_lora
from stiefel_lora.training import read_events
from stiefel_lora.training.early_stop import EarlyStop
from stiefel_lora.training.trainer import train

SAMPLES = [{"prompt": "thing", "steps": 1}]


def watched(model: Path, root: Path, **changes: Any) -> TrainConfig:
    """No loss is 10 lower than that of the start: it ends after two measurements."""
    return tiny_config(
        model,
        root,
        steps=8,
        validate_every=2,
        early_stop_patience=2,
        early_stop_min_delta=10.0,
        sample_every=8,
        samples=SAMPLES,
        **changes,
    )


def test_counting() -> None:
    stop = EarlyStop(patience=2, min_delta=0.1)
    seen = [stop.see(step, loss) for step, loss in enumerate([1.0, 0.95, 0.8, 0.75])]
    assert seen == [True, False, True, False]
    assert (stop.best_step, stop.wanted) == (2, False)
    other = EarlyStop(patience=2, min_delta=0.1)
    other.restore(stop.state())
    assert not other.see(4, 0.7001)
    assert (other.best_step, other.wanted) == (2, True)
    never = EarlyStop(patience=0, min_delta=0.0)
    assert [never.see(step, 1.0) for step in range(9)][-1] is False
    assert not never.wanted


@pytest.mark.slow
def test_run_ends_early_keeps_the_best_and_reports_it(
    tiny_sdxl: Path,
    tmp_path: Path,
    stop_after: StopAfter,
    capsys: pytest.CaptureFixture[str],
) -> None:
    result = train(watched(tiny_sdxl, tmp_path))
    assert (result.step, result.stopped_early, result.best_step) == (4, True, 0)
    assert not result.interrupted
    assert result.before_after is not None
    printed = capsys.readouterr().err
    assert "The lowest validation loss was at step 0" in printed
    # After step 1, the values of step 0; in the last line, those of step 4.
    assert re.search(r"Training: 1 of 8 .* validation loss \(step 0\) [\d.]+", printed)
    assert re.search(r"Training: 4 of 8 .* validation loss [\d.]+  0:", printed)
    assert result.checkpoint is not None
    assert result.checkpoint.name == "step-4"
    best = load_lora(result.run_dir / "lora" / "tiny-best.safetensors")
    # The best was the start, where A is zero; the last one has moved.
    assert not any(factors.down.any() for factors in best.values())
    last = load_lora(result.lora_files[0])
    assert all(factors.down.any() for factors in last.values())
    kinds = [e["type"] for e in read_events(result.run_dir / "events.jsonl")]
    assert kinds.count("early_stop") == 1

    config = watched(tiny_sdxl, tmp_path, run_name="stopped")
    with stop_after(3, "stop"):
        stopped = train(config)
    resumed = train(config, resume=stopped.run_dir)
    assert (resumed.step, resumed.stopped_early) == (4, True)
    assert_same_factors(result, resumed)
    again = train(config, resume=stopped.run_dir)
    assert (again.step, again.stopped_early) == (4, True)
    assert torch.equal(
        load_lora(again.lora_files[0])[next(iter(last))].up, last[next(iter(last))].up
    )


def test_it_needs_something_to_watch() -> None:
    with pytest.raises(ConfigError) as error:
        parse_config({"early_stop_patience": 3, "validate_every": 10})
    assert (
        "early_stop_patience: 3 has no effect without validate_every and validation "
        "images. Set validation_split (or validation_concepts), or remove "
    ) in str(error.value)
