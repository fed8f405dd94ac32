"""Layers with other learning rates."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

from helpers.fixtures import StopAfter
from helpers.runs import assert_same_factors, factors_of, tiny_config
from stiefel_lora import CheckpointError, ConfigError
from stiefel_lora.adapters import rate_factors
from stiefel_lora.training import read_events
from stiefel_lora.training.trainer import train

PATTERN = {"attn1": 0.5, "*.attn1.to_k": 3}
QUIET: dict[str, Any] = {"validate_every": 0}


def test_the_last_pattern_that_matches_is_used() -> None:
    names = ["a.attn1.to_q", "a.attn1.to_k", "a.ff"]
    assert rate_factors(names, PATTERN) == dict(zip(names, (0.5, 3, 1), strict=True))
    assert rate_factors(names, {}) == dict.fromkeys(names, 1)


def test_the_first_step_of_adam_has_the_length_of_each_rate(
    tiny_sdxl: Path, tmp_path: Path
) -> None:
    changes = {**QUIET, "steps": 1, "optimizer": {"name": "adamw"}}
    plain = factors_of(train(tiny_config(tiny_sdxl, tmp_path, **changes)))
    config = tiny_config(tiny_sdxl, tmp_path, learning_rate_pattern=PATTERN, **changes)
    found = factors_of(train(config))
    seen = set()
    for name, b in found.items():
        if "lora_B" not in name:
            continue
        factor = 3 if "attn1.to_k" in name else 0.5 if "attn1" in name else 1
        seen.add(factor)
        # B starts at 0.
        assert torch.allclose(b, factor * plain[name], rtol=1e-5), name
        assert b.any()
    assert seen == {0.5, 1, 3}


@pytest.mark.slow
def test_a_run_logs_all_rates_and_resumes_to_the_bit(
    tiny_sdxl: Path, tmp_path: Path, stop_after: StopAfter
) -> None:
    changes: dict[str, Any] = {
        **QUIET,
        "learning_rate": 0.2,
        "learning_rate_pattern": PATTERN,
        "train_text_encoder": True,
        "text_encoder_learning_rate": 0.01,
        "learning_rate_warmup_steps": 2,
    }
    whole = train(tiny_config(tiny_sdxl, tmp_path, run_name="whole", **changes))
    events = read_events(whole.run_dir / "events.jsonl")
    last = [e["values"] for e in events if e["type"] == "train"][-1]
    rates = {tag: rate for tag, rate in last.items() if tag.startswith("lr/")}
    assert sorted(rates.values()) == pytest.approx([0.01, 0.1, 0.2, 0.6])
    assert rates["lr/text_encoder"] == 0.01
    config = tiny_config(tiny_sdxl, tmp_path, **changes)
    with stop_after(2, "stop"):
        stopped = train(config)
    assert_same_factors(whole, train(config, resume=stopped.run_dir))
    other = tiny_config(
        tiny_sdxl, tmp_path, **{**changes, "learning_rate_pattern": {"attn1": 2}}
    )
    with pytest.raises(CheckpointError, match="has learning_rate_pattern"):
        train(other, resume=stopped.run_dir)


def test_a_pattern_without_layers_is_an_error(tiny_sdxl: Path, tmp_path: Path) -> None:
    config = tiny_config(tiny_sdxl, tmp_path, learning_rate_pattern={"attn9": 2})
    with pytest.raises(ConfigError, match="learning_rate_pattern: 'attn9' matches no"):
        train(config)
    assert not (tmp_path / "runs").exists()
