"""Two processes never write into one run."""

from __future__ import annotations

from pathlib import Path

import pytest

from helpers.jobs import kill, python_process
from helpers.runs import tiny_config
from stiefel_lora import OutputError
from stiefel_lora._locks import Lock, is_held
from stiefel_lora.runs.run_lock import hold_run, run_lock_path
from stiefel_lora.training.checkpointing.checkpoint import list_checkpoints
from stiefel_lora.training.state import TrainingState
from stiefel_lora.training.trainer import train

HOLD = """
import pathlib, sys
from stiefel_lora.runs.run_lock import hold_run
with hold_run(pathlib.Path(sys.argv[1])):
    print("held", flush=True)
    sys.stdin.read()
"""


@pytest.mark.slow
def test_a_run_that_another_process_writes_is_not_resumed(
    tiny_sdxl: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = tiny_config(tiny_sdxl, tmp_path, steps=1)
    run = train(config).run_dir
    # What a process leaves in the middle of a save; a second one would tidy it away.
    half = run / "checkpoints" / ".step-2.tmp"
    half.mkdir()
    more = config.model_copy(update={"steps": 2})
    with python_process(HOLD, run) as holder:
        assert holder.stdout is not None
        assert holder.stdout.readline() == "held\n"
        for resume in ("last", run, run / "checkpoints" / "step-1"):
            with pytest.raises(OutputError, match=r"Another process is using .*tiny\."):
                train(more, resume=resume)
            # One wait for the lock is enough here.
            monkeypatch.setattr(Lock.claim, "__defaults__", (0.0,))
        assert half.is_dir()
        monkeypatch.undo()
        kill(holder.pid)
        holder.wait()
    assert train(more, resume="last").step == 2
    assert not half.exists()


def test_training_holds_the_run_from_its_first_step_to_its_end(
    tiny_sdxl: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = run_lock_path(tmp_path / "runs" / "tiny")
    seen = []
    loss = TrainingState.loss
    monkeypatch.setattr(
        TrainingState,
        "loss",
        lambda *given: (seen.append(is_held(path)), loss(*given))[1],
    )
    config = tiny_config(tiny_sdxl, tmp_path, steps=1)
    train(config)
    train(config.model_copy(update={"steps": 2}), resume="last")
    assert len(seen) >= 2
    assert all(seen)
    assert not is_held(path)


def test_a_claim_inside_a_claim_of_this_process_is_no_conflict(tmp_path: Path) -> None:
    path = run_lock_path(tmp_path / "run")
    with hold_run(tmp_path / "run"):
        with hold_run(tmp_path / "run"):
            assert is_held(path)
        assert is_held(path)
    assert not is_held(path)


def test_a_disk_without_locks_stops_a_queue_but_no_training_by_hand(
    tiny_sdxl: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    def refuse(self: Lock, seconds: float = 0) -> bool:
        raise OutputError("The lock x could not be acquired (no locks here).")

    monkeypatch.setattr(Lock, "claim", refuse)
    with (
        pytest.raises(OutputError, match="could not be acquired"),
        hold_run(tmp_path / "x"),
    ):
        pass
    result = train(tiny_config(tiny_sdxl, tmp_path, steps=1))
    assert list_checkpoints(result.run_dir / "checkpoints")
    assert "not protected from other processes" in capsys.readouterr().err
