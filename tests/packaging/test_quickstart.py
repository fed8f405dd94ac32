"""What the quickstart does with the runs it finds."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

import quickstart
from _environment import Checkout

OUTCOME = {
    "lora_files": [],
    "checkpoint": None,
    "validation_before": 0.2,
    "validation_after": 0.15,
    "mean_effective_rank": 15.04,
    "lowest_effective_rank": 14.5,
    "wall_seconds": 99.6,
}


@pytest.fixture
def runs(tmp_path: Path) -> Path:
    return tmp_path / "runs"


def _finish(folder: Path, kind: str = "end") -> None:
    folder.mkdir(parents=True)
    lines = [{"type": "start", "values": {}}, {"type": kind, "values": OUTCOME}]
    text = "".join(json.dumps(line) + "\n" for line in lines)
    (folder / "events.jsonl").write_text(text, encoding="utf-8")


def test_no_run_yet(runs: Path) -> None:
    assert quickstart._latest(runs) is None


def test_latest_run_is_the_highest_number(runs: Path) -> None:
    for name in ("quickstart", "quickstart-2", "quickstart-10"):
        _finish(runs / name)
    assert quickstart._latest(runs) == runs / "quickstart-2"


@pytest.mark.parametrize("kind", ["stop", "error", "train"])
def test_unfinished_run_has_no_outcome(runs: Path, kind: str) -> None:
    _finish(runs / "quickstart", kind)
    assert quickstart._outcome(runs / "quickstart") is None


def test_half_a_line_has_no_outcome(runs: Path) -> None:
    _finish(runs / "quickstart")
    with (runs / "quickstart/events.jsonl").open("a", encoding="utf-8") as file:
        file.write('{"type": "en')
    assert quickstart._outcome(runs / "quickstart") is None


def test_interrupted_run_is_resumed(runs: Path) -> None:
    command = quickstart._training(Path("python"), runs.parent, runs / "quickstart")
    assert "--resume" not in command
    (runs / "quickstart/checkpoints/step-50").mkdir(parents=True)
    command = quickstart._training(Path("python"), runs.parent, runs / "quickstart")
    assert command[-2:] == ["--resume", runs / "quickstart"]


def test_table_shows_what_came_out(runs: Path) -> None:
    folder = runs / "quickstart"
    _finish(folder)
    lora = folder / "lora" / "quickstart.safetensors"
    outcome = {**OUTCOME, "lora_files": [str(lora)]}
    table = quickstart._table(outcome, folder, Checkout(runs.parent))
    for text in ("0.2000", "0.1500  (-25.0%)", "15.0", "14.5", "100 s"):
        assert text in table
    assert str(lora.relative_to(runs.parent)) in table
    assert str(runs.parent) not in table
