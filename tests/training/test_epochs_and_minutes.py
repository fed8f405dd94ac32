"""Runs whose length and intervals are given in epochs or minutes."""

from __future__ import annotations

from pathlib import Path

import pytest

from helpers.runs import assert_same_factors, make_images, tiny_config
from stiefel_lora.config import load_config
from stiefel_lora.config.epochs import has_epochs
from stiefel_lora.data.epoch_length import without_epochs
from stiefel_lora.data.split import scan_all
from stiefel_lora.training import due, read_events
from stiefel_lora.training.due import DueEvents
from stiefel_lora.training.preflight import estimate_run
from stiefel_lora.training.trainer import train


class Clock:
    """A clock that the test moves."""

    def __init__(self) -> None:
        self.now = 1000.0

    def monotonic(self) -> float:
        return self.now


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    made = Clock()
    monkeypatch.setattr(due, "time", made)
    return made


def test_steps_are_counted_without_a_clock(clock: Clock) -> None:
    events = DueEvents(clock.now)
    assert [step for step in range(1, 10) if events.is_due("a", 4, step)] == [4, 8]
    assert not events.is_due("a", 0, 4)


def test_minutes_are_due_at_the_next_step(clock: Clock) -> None:
    events = DueEvents(clock.now)
    seen = []
    for step in range(1, 9):
        clock.now += 45
        if events.is_due("a", "1 minute", step):
            seen.append(step)
        # Each event has its own count.
        assert events.is_due("b", "0.25 minutes", step)
        assert not events.is_due("c", "10 minutes", step)
    # At 90, 135, 180, 270, 315 and 360 s, the first steps after each full minute.
    assert seen == [2, 3, 4, 6, 7, 8]


def test_a_slow_step_or_start_is_one_event(clock: Clock) -> None:
    began = clock.now
    clock.now += 150  # The images were encoded for two and a half minutes.
    events = DueEvents(began)
    clock.now += 10
    assert not events.is_due("a", "1 minute", 1)
    clock.now += 300
    assert events.is_due("a", "1 minute", 2)
    assert not events.is_due("a", "1 minute", 3)
    clock.now += 60
    assert events.is_due("a", "1 minute", 4)


def steps_of(run_dir: Path, kind: str) -> list[int]:
    events = read_events(run_dir / "events.jsonl")
    return [event["step"] for event in events if event["type"] == kind]


def test_a_run_in_epochs_equals_the_run_of_its_steps(
    tiny_sdxl: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    images = [{"path": str(make_images(tmp_path / "three", count=3))}]
    given = {"concepts": images, "checkpoint_every": "1 epoch", "rank_every": 0}
    plain = tiny_config(
        tiny_sdxl, tmp_path / "a", **{**given, "steps": 5, "checkpoint_every": 2}
    )
    config = tiny_config(tiny_sdxl, tmp_path / "b", **given, steps=4)
    epochs = config.model_copy(update={"epochs": 3.0})
    expected, found = train(plain), train(epochs)
    assert (expected.step, found.step) == (5, 5)
    assert_same_factors(expected, found)
    printed = capsys.readouterr().err
    assert "3 epochs of 1.5 steps: 5 steps, checkpoint_every 2.\n" in printed
    # The folder of the run has plain numbers, so that a resume does the same.
    kept = load_config(found.run_dir / "config.json")
    assert (kept.steps, kept.epochs, kept.checkpoint_every) == (5, None, 2)
    assert steps_of(found.run_dir, "checkpoint") == [2, 4, 5]
    start = next(iter(read_events(found.run_dir / "events.jsonl")))
    assert start["values"]["steps"] == 5


@pytest.mark.slow
@pytest.mark.parametrize("seconds", [7.0, 70.0])
def test_minutes_change_no_training_numerics(
    tiny_sdxl: Path, tmp_path: Path, clock: Clock, seconds: float
) -> None:
    plain = train(tiny_config(tiny_sdxl, tmp_path / "a"))
    real = clock.monotonic

    def moved() -> float:
        clock.now += seconds
        return real()

    clock.monotonic = moved  # type: ignore[method-assign]
    found = train(
        tiny_config(
            tiny_sdxl,
            tmp_path / "b",
            validate_every="0.25 minutes",
            sample_every="0.5 minutes",
            samples=[{"prompt": "thing", "steps": 1}],
            checkpoint_every="1 minute",
            rank_every="2 minutes",
        )
    )
    assert_same_factors(plain, found)
    assert len(steps_of(found.run_dir, "validation")) > 1


def test_repeats_accumulation_and_unreadable_images_count(
    tiny_sdxl: Path, tmp_path: Path
) -> None:
    config = tiny_config(
        tiny_sdxl,
        tmp_path,
        concepts=[
            {"path": str(make_images(tmp_path / "three", count=3)), "repeats": 5},
            {"path": str(make_images(tmp_path / "four", count=4)), "balancing": 0.5},
        ],
        gradient_accumulation_steps=3,
        batch_size=1,
    ).model_copy(update={"epochs": 2.0, "sample_every": "1 epoch"})
    (tmp_path / "three" / "broken.png").write_bytes(b"not an image")
    found, line = without_epochs(config, scan_all(config)[0])
    # 3 x 5 + 4 x 0.5 = 17 images in steps of 3.
    assert (found.steps, found.sample_every) == (12, 6)
    assert line == "2 epochs of 5.667 steps: 12 steps, sample_every 6."


def test_validate_shows_steps_or_else_epochs(tiny_sdxl: Path, tmp_path: Path) -> None:
    config = tiny_config(tiny_sdxl, tmp_path).model_copy(update={"epochs": 3.0})
    found = estimate_run(config)
    assert found.config.steps == 6
    assert "3 epochs of 2 steps: 6 steps." in found.remarks
    bare = config.model_copy(update={"concepts": ()})
    assert has_epochs(estimate_run(bare).config)
