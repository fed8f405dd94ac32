"""Progress: lines that a log file keeps, and a bar on terminals of any width."""

from __future__ import annotations

import re

import pytest

from stiefel_lora.runs import progress
from stiefel_lora.runs.progress import ProgressBar


class _Clock:
    def __init__(self) -> None:
        self.now = 0.0

    def monotonic(self) -> float:
        return self.now


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> _Clock:
    clock = _Clock()
    monkeypatch.setattr(progress, "time", clock)
    return clock


def _lines(
    clock: _Clock, capsys: pytest.CaptureFixture[str], steps: int, done: int = 0
) -> list[str]:
    with ProgressBar("Training", 20, done) as bar:
        for _ in range(steps):
            clock.now += 3
            bar.advance({"loss": 0.25, "validation loss": None})
    return capsys.readouterr().err.splitlines()


def test_lines_come_at_the_start_the_first_step_every_10_seconds_and_the_end(
    clock: _Clock, capsys: pytest.CaptureFixture[str]
) -> None:
    lines = _lines(clock, capsys, 20)
    steps = [int(re.findall(r"\d+", line)[0]) for line in lines]
    assert steps == [0, 1, 5, 9, 13, 17, 20]
    assert lines[1] == "Training: 1 of 20  loss 0.25  0:00:57 left"
    assert lines[-1] == "Training: 20 of 20  loss 0.25"


def test_a_task_that_stops_early_ends_with_its_last_step(
    clock: _Clock, capsys: pytest.CaptureFixture[str]
) -> None:
    assert _lines(clock, capsys, 3)[-1].startswith("Training: 3 of 20  loss 0.25")


def test_time_left_after_a_resume_counts_the_steps_of_this_process(
    clock: _Clock, capsys: pytest.CaptureFixture[str]
) -> None:
    lines = _lines(clock, capsys, 1, done=10)
    assert lines[0] == "Training: 10 of 20"
    assert lines[1] == "Training: 11 of 20  loss 0.25  0:00:27 left"


@pytest.mark.parametrize("width", [40, 80, 100, 200])
def test_a_narrow_terminal_shows_the_count_and_cuts_the_values(
    width: int, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("FORCE_COLOR", "1")
    monkeypatch.setenv("COLUMNS", str(width))
    values = {"loss (50-step average)": 0.4075, "lr": 0.005983, "effective rank": 15.86}
    with ProgressBar("Training", 2000) as bar:
        for _ in range(7):
            bar.advance(values)
    text = re.sub(r"\x1b\[[0-9;?]*[a-zA-Z]", "", capsys.readouterr().err)
    last = re.split(r"[\r\n]+", text.strip())[-1]
    assert len(last.rstrip()) <= width
    assert re.match(r"Training +7/2000 +[-\d]:[-\d]{2}:[-\d]{2} ", last)
    assert ("effective rank 15.86" in last) == (width == 200)
    assert ("loss" in last) == (width >= 80)
