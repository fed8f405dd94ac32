from __future__ import annotations

import signal
from pathlib import Path

import pytest

from helpers.fixtures import StopAfter
from helpers.runs import assert_same_factors, tiny_config
from stiefel_lora import CheckpointError, OutputError
from stiefel_lora.metrics.tags import AVERAGE_LOSS
from stiefel_lora.training import read_events, trainer
from stiefel_lora.training.checkpointing.checkpoint import (
    list_checkpoints,
    load_checkpoint,
)
from stiefel_lora.training.loop import Loop
from stiefel_lora.training.trainer import train


@pytest.mark.parametrize("order", ["stop", signal.SIGINT, signal.SIGTERM])
def test_stopped_run_saves_explains_how_to_resume_and_ends_the_same(
    tiny_sdxl: Path,
    tmp_path: Path,
    stop_after: StopAfter,
    capsys: pytest.CaptureFixture[str],
    order: str | int,
) -> None:
    whole = train(tiny_config(tiny_sdxl, tmp_path, run_name="whole"))
    config = tiny_config(tiny_sdxl, tmp_path)
    with stop_after(2, order):
        stopped = train(config)
    assert stopped.interrupted
    assert stopped.step == 2
    assert stopped.lora_files == ()
    assert stopped.checkpoint == stopped.run_dir / "checkpoints" / "step-2"
    shown = capsys.readouterr().err
    assert (
        "Stopped and saved at step 2 of 4. Resume with: stiefel-lora train "
        f'"{stopped.run_dir / "config.json"}" --resume "{stopped.run_dir}"' in shown
    )
    assert ("Press Ctrl-C again to abort" in shown) == (order != "stop")
    resumed = train(config, resume=stopped.run_dir)
    assert resumed.run_dir == stopped.run_dir
    assert not resumed.interrupted
    assert_same_factors(whole, resumed)
    events = list(read_events(resumed.run_dir / "events.jsonl"))
    assert [e["step"] for e in events if e["type"] == "train"] == [1, 2, 3, 4]
    assert _averages(resumed.run_dir) == _averages(whole.run_dir)


def _averages(run_dir: Path) -> list[float]:
    events = read_events(run_dir / "events.jsonl")
    return [e["values"][AVERAGE_LOSS] for e in events if e["type"] == "train"]


def test_a_second_signal_aborts_and_names_the_latest_checkpoint(
    tiny_sdxl: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    def press_twice(loop: Loop, *_: float) -> None:
        if loop.step == 2:
            signal.raise_signal(signal.SIGINT)
            signal.raise_signal(signal.SIGINT)

    config = tiny_config(tiny_sdxl, tmp_path, checkpoint_every=1)
    monkeypatch.setattr(Loop, "_log_step", press_twice)
    with pytest.raises(KeyboardInterrupt):
        train(config)
    saved = tmp_path / "runs" / "tiny" / "checkpoints" / "step-1"
    assert f"Aborted. Latest checkpoint: {saved}." in capsys.readouterr().err
    monkeypatch.undo()
    assert train(config, resume="last").step == config.steps


def test_ctrl_c_while_the_model_is_loaded_leaves_no_folder(
    tiny_sdxl: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    def pressed(*_: object) -> None:
        raise KeyboardInterrupt

    config = tiny_config(tiny_sdxl, tmp_path)
    monkeypatch.setattr(trainer, "build_state", pressed)
    with pytest.raises(KeyboardInterrupt):
        train(config)
    assert "Stopped before the first step" in capsys.readouterr().err
    assert not (tmp_path / "runs" / "tiny").exists()


def test_save_order_writes_checkpoint_and_lora_and_continues(
    tiny_sdxl: Path, tmp_path: Path, stop_after: StopAfter
) -> None:
    with stop_after(1, "save"):
        result = train(tiny_config(tiny_sdxl, tmp_path, steps=2))
    assert not result.interrupted
    kept = [path.name for path in list_checkpoints(result.run_dir / "checkpoints")]
    assert kept == ["step-1", "step-2"]
    assert {path.name for path in (result.run_dir / "lora").iterdir()} == {
        "tiny-step-1.safetensors",
        "tiny-step-1_peft.safetensors",
        "tiny.safetensors",
        "tiny_peft.safetensors",
    }


def test_another_run_never_writes_into_an_older_one(
    tiny_sdxl: Path, tmp_path: Path
) -> None:
    config = tiny_config(tiny_sdxl, tmp_path, steps=1)
    names = [train(config).run_dir.name for _ in range(2)]
    assert names == ["tiny", "tiny-2"]


@pytest.fixture(scope="module")
def finished(tiny_sdxl: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("finished")
    train(tiny_config(tiny_sdxl, root, steps=1))
    return root


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"lora_rank": 8}, "has lora_rank 4, but this run has 8"),
        ({"optimizer": {"name": "adamw"}}, "'stiefel_lora', but this run has 'adamw'"),
        ({"layer_filter": ["mid_block"]}, "has layers (layer_filter)"),
    ],
)
def test_checkpoint_of_other_settings_is_refused(
    tiny_sdxl: Path, finished: Path, changes: dict, words: str
) -> None:
    config = tiny_config(tiny_sdxl, finished, steps=2, **changes)
    with pytest.raises(CheckpointError) as error:
        train(config, resume="last")
    assert words in str(error.value)
    assert "start a new run without --resume" in str(error.value)


def test_checkpoint_of_another_base_is_refused(finished: Path, tmp_path: Path) -> None:
    from helpers.tiny_sdxl import build_tiny_sdxl

    other = build_tiny_sdxl(tmp_path / "other", seed=1)
    with pytest.raises(CheckpointError, match="a base model with the fingerprint"):
        train(tiny_config(other, finished, steps=2), resume="last")


def test_more_steps_and_another_rate_continue_and_are_reported(
    tiny_sdxl: Path, finished: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    config = tiny_config(tiny_sdxl, finished, steps=2, learning_rate=0.5)
    result = train(config, resume=finished / "runs" / "tiny" / "checkpoints" / "step-1")
    assert result.step == 2
    shown = capsys.readouterr().err
    assert "Changed settings" in shown
    assert "learning_rate 0.02 -> 0.5" in shown
    values = [
        event["values"]["lr/unet"]
        for event in read_events(result.run_dir / "events.jsonl")
        if event["type"] == "train"
    ]
    assert values[-1] == 0.5


def test_damaged_checkpoint_gives_way_to_the_one_before(
    tiny_sdxl: Path, tmp_path: Path
) -> None:
    config = tiny_config(tiny_sdxl, tmp_path, steps=2, checkpoint_every=1)
    run = train(config).run_dir
    last = list_checkpoints(run / "checkpoints")[-1]
    (last / "optimizer.pt").write_bytes(b"")
    (run / "checkpoints" / ".step-3.tmp").mkdir()
    result = train(config, resume="last")
    assert result.step == 2
    assert load_checkpoint(last).step == 2
    assert not (run / "checkpoints" / ".step-3.tmp").exists()


def test_full_disk_stops_with_a_message_and_the_previous_checkpoint(
    tiny_sdxl: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from stiefel_lora.training.checkpointing import checkpoint as module

    write = module._write_files

    def full_at_two(folder: Path, state: module.Checkpoint) -> None:
        if state.step == 2:
            (folder / "lora.safetensors").write_bytes(b"half")
            raise OSError(28, "No space left on device")
        write(folder, state)

    monkeypatch.setattr(module, "_write_files", full_at_two)
    with pytest.raises(OutputError, match="No space left on device"):
        train(tiny_config(tiny_sdxl, tmp_path, checkpoint_every=1))
    kept = list((tmp_path / "runs" / "tiny" / "checkpoints").iterdir())
    assert [path.name for path in kept] == ["step-1"]
    assert load_checkpoint(kept[0]).step == 1
