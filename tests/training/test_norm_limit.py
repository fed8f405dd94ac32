"""Norms of the updates of a run stay below scale_weight_norms and are logged."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch

from helpers.fixtures import StopAfter
from helpers.runs import assert_same_factors, factors_of, tiny_config
from stiefel_lora.training import TrainResult, read_events
from stiefel_lora.training.trainer import train

ADAMW: dict[str, Any] = {
    "optimizer": {"name": "adamw"},
    "learning_rate": 1e-2,
    "lora_alpha": 8.0,
}


def norms_of(result: TrainResult, scale: float) -> list[float]:
    """Frobenius norms of the dense updates."""
    factors = factors_of(result)
    return [
        float(
            scale * (b.flatten(1) @ factors[name.replace("_B", "_A")].flatten(1)).norm()
        )
        for name, b in factors.items()
        if "lora_B" in name
    ]


def logged(result: TrainResult) -> list[dict[str, float]]:
    events = read_events(result.run_dir / "events.jsonl")
    return [event["values"] for event in events if event["type"] == "train"]


@pytest.mark.parametrize(
    ("changes", "scale"), [({}, 1.0), (ADAMW, 2.0)], ids=["stiefel_lora", "adamw"]
)
def test_updates_are_scaled_and_the_numbers_logged(
    tiny_sdxl: Path, tmp_path: Path, changes: dict[str, Any], scale: float
) -> None:
    free = train(tiny_config(tiny_sdxl, tmp_path, run_name="free", **changes))
    before = norms_of(free, scale)
    limit = sorted(before)[len(before) // 2]
    config = tiny_config(tiny_sdxl, tmp_path, scale_weight_norms=limit, **changes)
    limited = train(config)
    norms = norms_of(limited, scale)
    assert max(norms) == pytest.approx(limit, rel=1e-5)
    last = logged(limited)[-1]
    assert 0 < last["max_norm/keys_scaled"] < len(norms)
    assert last["norm/avg_key_norm"] == pytest.approx(sum(norms) / len(norms), rel=1e-5)
    assert last["max_norm/max_key_norm"] == pytest.approx(max(norms), rel=1e-5)
    assert "max_norm/keys_scaled" not in logged(free)[-1]
    if not changes:
        for name, b in factors_of(limited).items():
            if "lora_B" in name:
                assert torch.allclose(b.mT @ b, torch.eye(b.shape[1]), atol=1e-5)


@pytest.mark.parametrize("name", ["stiefel_lora", "stella", "whitened_lora", "adamw"])
def test_a_run_resumes_to_the_bit(
    tiny_sdxl: Path, tmp_path: Path, stop_after: StopAfter, name: str
) -> None:
    changes: dict[str, Any] = {
        "optimizer": {"name": name},
        "learning_rate": 1e-2,
        "scale_weight_norms": 1e-3,
        "validate_every": 0,
        "ema": "cpu",
        "ema_update_step_interval": 1,
    }
    whole = train(tiny_config(tiny_sdxl, tmp_path, run_name="whole", **changes))
    assert logged(whole)[1]["max_norm/keys_scaled"] > 0
    config = tiny_config(tiny_sdxl, tmp_path, **changes)
    with stop_after(2, "stop"):
        stopped = train(config)
    assert_same_factors(whole, train(config, resume=stopped.run_dir))


def test_a_limit_that_is_not_reached_changes_no_bit(
    tiny_sdxl: Path, tmp_path: Path
) -> None:
    free = train(tiny_config(tiny_sdxl, tmp_path, run_name="free"))
    config = tiny_config(tiny_sdxl, tmp_path, scale_weight_norms=1e6)
    limited = train(config)
    assert_same_factors(free, limited)
    assert logged(limited)[-1]["max_norm/keys_scaled"] == 0
    settings = json.loads((limited.run_dir / "config.json").read_text())
    assert settings["scale_weight_norms"] == 1e6
