"""The process of a job trains by the function that the command line calls."""

from __future__ import annotations

import signal
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from typer.testing import CliRunner

from helpers.jobs import ready_config
from stiefel_lora import ConfigError, NonFiniteError
from stiefel_lora._commands import app
from stiefel_lora._install import install_command
from stiefel_lora.config import load_config
from stiefel_lora.jobs import Plan, Queue, add_jobs, worker
from stiefel_lora.runs.interrupts import InterruptWatch

ENDS = [
    (ConfigError("lora_rank: too large."), 2, "lora_rank: too large."),
    (NonFiniteError("Step 3: the loss is nan."), 1, "Step 3: the loss is nan."),
    (KeyboardInterrupt(), 130, "Interrupted."),
    (
        ModuleNotFoundError("No module named 'peft'", name="peft"),
        2,
        "This requires the package peft, which is not installed. "
        f"Install it with: {install_command('train')}",
    ),
    (ZeroDivisionError("division by zero"), 1, "ZeroDivisionError: division by zero"),
    (None, 0, ""),
]


def trainings(monkeypatch: pytest.MonkeyPatch, error: BaseException | None) -> None:
    def train(config: Any, resume: Any = None, **_: Any) -> Any:
        if error is not None:
            raise error
        return SimpleNamespace(interrupted=False)

    monkeypatch.setattr("stiefel_lora.training.trainer.train", train)


@pytest.mark.parametrize(("error", "code", "words"), ENDS)
def test_it_ends_as_the_command_does(
    error: BaseException | None,
    code: int,
    words: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    trainings(monkeypatch, error)
    path, before = ready_config(tmp_path), [*sys.argv]
    queue = Queue(tmp_path / "queue")
    add_jobs(queue, [Plan(load_config(path), "cats.json", {})])
    job = queue.claim(lambda _: "")
    assert job is not None
    assert worker.run(queue, job) == code
    assert capsys.readouterr().err.strip().endswith(words)
    assert sys.argv == before
    command = CliRunner().invoke(app, ["train", str(path)])
    assert command.exit_code == code


def test_a_device_of_a_slot_is_set(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[list[str]] = []
    monkeypatch.setattr(
        worker,
        "train_file",
        lambda config, overrides, resume: (
            seen.append(overrides) or SimpleNamespace(interrupted=True)
        ),
    )
    for device in ("1", "cpu", ""):
        queue = Queue(tmp_path / f"queue-{device}")
        config = load_config(ready_config(tmp_path, f"cats{device}"))
        add_jobs(queue, [Plan(config, "cats.json", {})])
        job = queue.claim(lambda _, device=device: device)
        assert job is not None
        assert worker.run(queue, job) == 130
    assert seen == [["device=cuda"], ["device=cpu"], []]


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_first_signal_requests_and_a_second_ends(number: int) -> None:
    before, calls = signal.getsignal(number), []
    with InterruptWatch(lambda: calls.append(1)) as watch:
        assert not watch.wanted
        signal.raise_signal(number)
        assert watch.wanted
        with pytest.raises(KeyboardInterrupt):
            signal.raise_signal(number)
    assert calls == [1]
    assert signal.getsignal(number) == before
