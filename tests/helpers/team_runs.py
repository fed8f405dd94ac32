"""Trainings on several processes for tests, and what they leave behind."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file
from torch import Tensor

from helpers.training_process import start_team
from stiefel_lora.config import TrainConfig
from stiefel_lora.runs.events import read_events

__all__ = ["distance", "events", "factors", "run"]


def run(config: TrainConfig, logs: Path, count: int = 2, **options: Any) -> Path:
    """Train on ``count`` processes. Return the run folder."""
    team = start_team(config, logs, count, **options)
    codes = team.codes()
    assert codes == [0] * count, "".join(map(team.printed, range(count)))
    return max(config.output_dir.glob(f"{config.run_name}*"))


def factors(folder: Path) -> dict[str, Tensor]:
    latest = max(folder.glob("checkpoints/step-*"))
    return load_file(latest / "lora.safetensors")


def distance(first: dict[str, Tensor], second: dict[str, Tensor]) -> float:
    assert first.keys() == second.keys()
    a, b = (torch.cat([v.flatten() for v in x.values()]) for x in (first, second))
    return float((a - b).norm() / a.norm())


def events(folder: Path, kind: str) -> list[dict[str, Any]]:
    found = read_events(folder / "events.jsonl")
    return [event["values"] for event in found if event["type"] == kind]
