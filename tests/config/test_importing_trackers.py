"""Trackers of other trainers."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from stiefel_lora.config.importing.from_ai_toolkit import from_ai_toolkit
from stiefel_lora.config.importing.from_sd_scripts import from_sd_scripts


@pytest.mark.parametrize(
    ("name", "trackers"),
    [
        ("wandb", ["wandb"]),
        ("all", ["tensorboard", "wandb"]),
        ("tensorboard", None),
    ],
)
def test_log_with_selects_trackers(
    tmp_path: Path, name: str, trackers: list[str] | None
) -> None:
    source = {"log_with": name, "log_tracker_name": "cats"}
    found = from_sd_scripts(source, folder=tmp_path, family="sdxl")
    assert found.data.get("trackers") == trackers
    assert found.data["tracker_project"] == "cats"


@pytest.mark.parametrize("used", [True, False])
def test_use_wandb_adds_it(tmp_path: Path, used: bool) -> None:
    process: dict[str, Any] = {
        "type": "sd_trainer",
        "logging": {"use_wandb": used, "project_name": "cats"},
        "model": {"name_or_path": "a/b", "is_flux": True},
    }
    source = {"job": "extension", "config": {"name": "x", "process": [process]}}
    found = from_ai_toolkit(source, path=tmp_path / "job.yaml")
    wanted = ["tensorboard", "wandb"] if used else None
    assert found.data.get("trackers") == wanted
    assert found.data.get("tracker_project") == ("cats" if used else None)
