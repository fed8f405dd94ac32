"""``train --processes N``: one exit code, and signals for the whole training."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from helpers.runs import tiny_config
from stiefel_lora import ConfigError, _launcher
from stiefel_lora.config.dump import dump_full
from stiefel_lora.runs.events import read_events


def test_only_a_failure_ends_the_other_processes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert _launcher.record_outcome(130) == 130
    monkeypatch.setenv("STIEFEL_LORA_OUTCOMES", str(tmp_path))
    for rank, code, expected in (("0", 130, 0), ("1", 2, 2)):
        monkeypatch.setenv("RANK", rank)
        assert _launcher.record_outcome(code) == expected
        assert (tmp_path / rank).read_text() == str(code)


@pytest.mark.parametrize(
    ("codes", "returned", "expected"),
    [
        ({}, 0, 0),
        ({"0": 130, "1": 130}, 0, 130),
        ({"0": 1, "1": 2}, 1, 2),
        # Killed.
        ({}, 1, 1),
    ],
)
def test_the_exit_code_is_that_of_the_training(
    monkeypatch: pytest.MonkeyPatch,
    codes: dict[str, int],
    returned: int,
    expected: int,
) -> None:
    class Launched:
        pid = os.getpid()
        returncode = returned

        def __init__(self, command: list[str], *, env: dict[str, str], **_: object):
            assert command[2:4] == ["stiefel_lora._torchrun", "--standalone"]
            for rank, code in codes.items():
                Path(env["STIEFEL_LORA_OUTCOMES"], rank).write_text(str(code))

        def wait(self) -> None:
            """Do nothing."""

    monkeypatch.setattr(subprocess, "Popen", Launched)
    assert _launcher.run_processes(2, ["train", "x.json"]) == expected


def test_processes_that_torchrun_started_start_no_others(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    _launcher.check_not_started()
    monkeypatch.setenv("WORLD_SIZE", "2")
    with pytest.raises(ConfigError, match="already started by torchrun"):
        _launcher.check_not_started()


@pytest.mark.slow
@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork (not on Windows)")
def test_ctrl_c_saves_and_one_process_resumes(tiny_sdxl: Path, tmp_path: Path) -> None:
    config = tiny_config(tiny_sdxl, tmp_path, steps=2000)
    path = tmp_path / "config.json"
    path.write_text(dump_full(config), encoding="utf-8")
    command = [sys.executable, "-m", "stiefel_lora", "train", str(path)]
    log = (tmp_path / "log.txt").open("w")
    started = subprocess.Popen([*command, "--processes", "2"], stderr=log)
    events = tmp_path / "runs" / "tiny" / "events.jsonl"
    while started.poll() is None and '"step": 3,' not in (
        events.read_text() if events.exists() else ""
    ):
        time.sleep(0.2)
    started.send_signal(signal.SIGINT)
    assert started.wait(120) == 130, (tmp_path / "log.txt").read_text()
    (saved,) = (tmp_path / "runs" / "tiny" / "checkpoints").iterdir()
    step = int(saved.name.removeprefix("step-"))
    again = ["--resume", str(events.parent), "--set", f"steps={step + 1}"]
    subprocess.run([*command, *again], check=True, stderr=log)
    kinds = [event["type"] for event in read_events(events)]
    assert kinds.count("stop") == 1
    assert kinds[-1] == "end"
