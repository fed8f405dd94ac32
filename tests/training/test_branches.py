"""A run that is resumed from an older checkpoint: its folder holds one branch."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
from typer.testing import CliRunner

from helpers.fixtures import StopAfter
from helpers.runs import factors_of, tiny_config
from stiefel_lora import CheckpointError, NonFiniteError, OutputError
from stiefel_lora._commands import app
from stiefel_lora.config import TrainConfig
from stiefel_lora.jobs.evidence import end_of, is_finished
from stiefel_lora.jobs.job import Job, JobState
from stiefel_lora.jobs.results import collect
from stiefel_lora.jobs.tail import Watch
from stiefel_lora.runs.events import current_events
from stiefel_lora.training import RunFolder, read_events
from stiefel_lora.training.checkpointing.checkpoint import (
    list_checkpoints,
    load_checkpoint,
)
from stiefel_lora.training.loop import Loop
from stiefel_lora.training.trainer import train
from stiefel_lora.ui.controllers.run_record import RunRecord


def settings(model: Path, root: Path, **changes: Any) -> TrainConfig:
    given = {
        "steps": 8,
        "checkpoint_every": 2,
        "keep_checkpoints": 2,
        "validate_every": 8,
        "rank_every": 3,
        "sample_every": 8,
        "samples": [{"prompt": "thing", "steps": 1}],
        **changes,
    }
    return tiny_config(model, root, **given)


@pytest.fixture(scope="module")
def finished(tiny_sdxl: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run that reached 8 and still has step-6; do not change it."""
    root = tmp_path_factory.mktemp("finished")
    train(settings(tiny_sdxl, root))
    return root


@pytest.fixture
def root(finished: Path, tmp_path: Path) -> Path:
    shutil.copytree(finished, tmp_path, dirs_exist_ok=True)
    return tmp_path


def names(folder: Path) -> list[str]:
    return [path.name for path in list_checkpoints(folder)]


def test_later_checkpoints_make_way_and_the_next_resume_stays_on_the_branch(
    tiny_sdxl: Path,
    root: Path,
    stop_after: StopAfter,
    capsys: pytest.CaptureFixture[str],
) -> None:
    folder = RunFolder(root / "runs" / "tiny")
    lora = folder.lora / "tiny.safetensors"
    before = lora.read_bytes()
    config = settings(tiny_sdxl, root, learning_rate=1e-3)
    with stop_after(7, "stop"):
        stopped = train(config, resume=folder.checkpoints / "step-6")
    aside = folder.abandoned / "after-step-6"
    shown = " ".join(capsys.readouterr().err.split())
    assert (
        f"step-8 and the files that were written after step 6 were moved to {aside}."
        in shown
    )
    assert names(folder.checkpoints) == ["step-6", "step-7"]
    assert names(aside / "checkpoints") == ["step-8"]
    assert (aside / "lora" / "tiny.safetensors").read_bytes() == before
    assert not lora.exists()
    assert (aside / "samples" / "step-000008-0.png").is_file()
    assert (folder.samples / "step-000000-0.png").is_file()
    assert stopped.checkpoint == folder.checkpoints / "step-7"

    # The printed command.
    resumed = train(config, resume=folder.root)
    assert resumed.step == 8
    assert names(folder.checkpoints) == ["step-7", "step-8"]
    end = end_of(folder)
    assert end is not None
    assert Path(end["checkpoint"]).is_dir()
    abandoned = load_checkpoint(aside / "checkpoints" / "step-8")
    name = next(iter(abandoned.factors))
    assert not torch.equal(abandoned.factors[name], factors_of(resumed)[name])
    assert not list(folder.abandoned.glob("after-step-7*"))


@pytest.mark.slow
def test_the_first_branch_can_be_had_back(
    tiny_sdxl: Path, root: Path, stop_after: StopAfter
) -> None:
    folder = RunFolder(root / "runs" / "tiny")
    config = settings(tiny_sdxl, root)
    first = load_checkpoint(folder.checkpoints / "step-8")
    with stop_after(7, "stop"):
        train(
            settings(tiny_sdxl, root, learning_rate=1e-3),
            resume=folder.checkpoints / "step-6",
        )
    there = folder.abandoned / "after-step-6"
    for path in (there, there / "checkpoints" / "step-8"):
        with pytest.raises(CheckpointError, match=r"Move its checkpoints back to "):
            train(config, resume=path)
    (there / "checkpoints" / "step-8").rename(folder.checkpoints / "step-8")
    more = config.model_copy(update={"steps": 9})
    result = train(more, resume="last")
    # step-7 is of the other branch: it has a lower number, but is not before step-8.
    assert names(folder.checkpoints) == ["step-8", "step-9"]
    assert names(folder.abandoned / "after-step-8" / "checkpoints") == ["step-7"]
    last = load_checkpoint(result.run_dir / "checkpoints" / "step-9")
    assert last.branch.parents == ((first.branch.name, 8),)


@pytest.mark.slow
def test_files_of_the_other_branch_make_way_when_the_first_one_is_had_back(
    tiny_sdxl: Path, root: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = RunFolder(root / "runs" / "tiny")
    config = settings(tiny_sdxl, root)
    train(
        settings(tiny_sdxl, root, learning_rate=1e-3, steps=7),
        resume=folder.checkpoints / "step-6",
    )
    other = (folder.lora / "tiny.safetensors").read_bytes()
    there = folder.abandoned / "after-step-6"
    (there / "checkpoints" / "step-8").rename(folder.checkpoints / "step-8")
    capsys.readouterr()
    train(config.model_copy(update={"steps": 9}), resume="last")
    shown = " ".join(capsys.readouterr().err.split())
    assert "step-7 and the files that were written after step 6 were moved to " in shown
    aside = folder.abandoned / "after-step-8"
    assert (aside / "lora" / "tiny.safetensors").read_bytes() == other


@pytest.mark.slow
def test_a_kill_before_the_first_checkpoint_of_a_branch_does_not_hide_it(
    tiny_sdxl: Path, root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = root / "runs" / "tiny"
    config, checkpoints = settings(tiny_sdxl, root), run / "checkpoints"
    with monkeypatch.context() as patch:
        patch.setattr(Loop, "run", die)
        for resume in (checkpoints / "step-6", run):
            with pytest.raises(RuntimeError, match="killed"):
                train(config, resume=resume)
    assert names(checkpoints) == ["step-6"]
    train(config, resume=run)
    branch = load_checkpoint(checkpoints / "step-8").branch
    assert branch.name
    assert branch.parents == (("", 6),)
    # The branch is known now: a plain resume stays on it.
    train(settings(tiny_sdxl, root, steps=10), resume=run)
    assert load_checkpoint(checkpoints / "step-10").branch == branch
    # The old one, moved back, is distinguished from it.
    old = run / "abandoned" / "after-step-6" / "checkpoints" / "step-8"
    shutil.rmtree(checkpoints / "step-8")
    old.rename(checkpoints / "step-8")
    train(settings(tiny_sdxl, root, steps=12), resume=checkpoints / "step-8")
    assert names(checkpoints) == ["step-10", "step-12"]
    assert load_checkpoint(checkpoints / "step-12").branch.parents == (("", 8),)


def die(*args: Any) -> None:
    raise RuntimeError("killed")


def test_a_plain_resume_begins_no_branch(
    tiny_sdxl: Path, root: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = RunFolder(root / "runs" / "tiny")
    train(settings(tiny_sdxl, root, steps=9), resume="last")
    assert not folder.abandoned.exists()
    assert "branch" not in capsys.readouterr().err
    assert load_checkpoint(folder.checkpoints / "step-9").branch.parents == ()


def test_readers_of_events_follow_the_branch(
    tiny_sdxl: Path, root: Path, stop_after: StopAfter
) -> None:
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    folder = RunFolder(root / "runs" / "tiny")
    assert is_finished(folder, 8)
    config = settings(tiny_sdxl, root, learning_rate=1e-3)
    with stop_after(7, "stop"):
        train(config, resume=folder.checkpoints / "step-6")
    mark = [e for e in read_events(folder.events_file) if e["type"] == "resume"][-1]
    assert mark["step"] == 6
    assert mark["values"]["checkpoint"] == "step-6"
    assert mark["values"]["abandoned"] == ["step-8"]
    now = current_events(folder.events_file)
    assert [e["step"] for e in now if e["type"] == "train"] == [*range(1, 8)]
    assert not is_finished(folder, 8)
    assert end_of(folder) is None

    record = RunRecord(folder.root)
    record.look()
    assert (record.state, record.step, record.checkpoint_step) == ("stopped", 7, 7)
    assert record.lora_files == []
    assert [found.step for found in record.rounds] == [0]
    assert record.series["loss/train"].steps.tolist() == [*range(1, 8)]
    assert record.series["validation/loss"].steps.tolist() == [0]

    job = job_of(folder, config)
    (result,) = collect([job])
    assert [step for step, _ in result.curves["training loss"]] == [*range(1, 8)]
    assert [step for step, _ in result.curves["validation loss"]] == [0]
    assert [*result.samples] == [0]
    progress = Watch(job).progress()
    first = next(e for e in now if e["type"] == "validation")
    assert (progress.step, progress.validation_loss) == (
        7,
        first["values"]["validation/loss"],
    )

    reader = EventAccumulator(str(folder.tensorboard), size_guidance={"scalars": 0})
    reader.Reload()
    rates = [(e.step, round(e.value, 6)) for e in reader.Scalars("lr/unet")]
    assert [step for step, _ in rates] == [*range(1, 8)]
    assert [step for step, rate in rates if rate == 1e-3] == [7]
    assert [e.step for e in reader.Scalars("validation/loss")] == [0]


def job_of(folder: RunFolder, config: TrainConfig) -> Job:
    return Job(
        id=1,
        run_dir=folder.root,
        config=config.model_dump(mode="json", by_alias=True),
        source="",
        changes={},
        state=JobState.RUNNING,
        wish=None,
        device="",
        attempt=1,
        deaths=0,
        pid=None,
        pid_started=None,
        exit_code=None,
        message="",
        added=0.0,
        started=None,
        seconds=0.0,
        saved_step=0,
    )


@pytest.mark.slow
def test_nan_after_a_branch_names_a_checkpoint_that_is_there(
    tiny_sdxl: Path, tmp_path: Path
) -> None:
    def config(steps: int, at: int) -> TrainConfig:
        optimizer = {
            "name": "custom",
            "class": "helpers.poison.PoisonedSGD",
            "options": {"at": at},
        }
        return tiny_config(
            tiny_sdxl, tmp_path, steps=steps, checkpoint_every=1, optimizer=optimizer
        )

    run = train(config(4, 99)).run_dir
    for path in (run / "checkpoints").iterdir():
        state = json.loads((path / "state.json").read_text())
        state["identity"]["options"]["at"] = 2
        (path / "state.json").write_text(json.dumps(state))
    with pytest.raises(NonFiniteError) as error:
        train(config(6, 2), resume=run / "checkpoints" / "step-2")
    assert f"The last valid checkpoint is {run / 'checkpoints' / 'step-3'}." in str(
        error.value
    )
    assert names(run / "checkpoints") == ["step-2", "step-3"]


def test_a_damaged_checkpoint_is_moved_aside_by_what_takes_its_place(
    tiny_sdxl: Path, root: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = RunFolder(root / "runs" / "tiny")
    (folder.checkpoints / "step-8" / "state.json").write_text('{"step": "8"}')
    result = train(settings(tiny_sdxl, root), resume="last")
    shown = " ".join(capsys.readouterr().err.split())
    assert "(state.json is damaged)" in shown
    assert "Trying the previous one." in shown
    assert "Resuming from" in shown
    assert result.step == 8
    assert names(folder.checkpoints) == ["step-6", "step-8"]
    assert names(folder.abandoned / "after-step-6" / "checkpoints") == ["step-8"]


@pytest.mark.slow
def test_the_best_lora_of_the_left_branch_is_not_taken_for_that_of_this_one(
    tiny_sdxl: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    config = tiny_config(
        tiny_sdxl,
        tmp_path,
        steps=3,
        checkpoint_every=1,
        validate_every=1,
        early_stop_patience=9,
        optimizer={"name": "stiefel_lora", "step": "factors"},
        learning_rate=1e-3,
    )
    run = train(config).run_dir
    events = current_events(run / "events.jsonl")
    writes = [
        e["step"]
        for e in events
        if e["type"] == "lora" and "tiny-best.safetensors" in e["values"]["files"]
    ]
    assert writes[-1] > 1, "the loss falls in this run"
    result = train(config, resume=run / "checkpoints" / "step-1")
    assert "contained the best LoRA of the abandoned branch" in capsys.readouterr().err
    assert result.best_step is not None
    assert result.best_step >= 2
    assert (run / "lora" / "tiny-best.safetensors").is_file()


def test_steps_below_the_checkpoint_are_refused_and_nothing_is_written(
    tiny_sdxl: Path, root: Path
) -> None:
    run = root / "runs" / "tiny"

    def files() -> dict[Path, bytes]:
        found = [path for path in run.rglob("*") if path.is_file()]
        return {path: path.read_bytes() for path in found}

    before = files()
    for resume in ("last", run, run / "checkpoints" / "step-8"):
        with pytest.raises(CheckpointError) as error:
            train(settings(tiny_sdxl, root, steps=7), resume=resume)
        assert str(error.value) == (
            f"steps=7: the checkpoint {run / 'checkpoints' / 'step-8'} is already at "
            "step 8. Set steps to at least 8, or resume from an older checkpoint."
        )
    command = ["train", str(run / "config.json"), "--resume", "--set", "steps=7"]
    done = CliRunner().invoke(app, command)
    assert (done.exit_code, "steps=7: the checkpoint" in done.stderr) == (2, True)
    assert files() == before
    result = train(
        settings(tiny_sdxl, root, steps=7), resume=run / "checkpoints" / "step-6"
    )
    assert result.step == 7


def test_a_state_that_does_not_fit_leaves_the_folder_as_it_was(
    tiny_sdxl: Path, root: Path
) -> None:
    from stiefel_lora.training.checkpointing.checkpoint import save_checkpoint

    folder = RunFolder(root / "runs" / "tiny")
    path = folder.checkpoints / "step-6"
    checkpoint = load_checkpoint(path)
    checkpoint.training["rng"] = {"python": "?"}
    save_checkpoint(folder.checkpoints, checkpoint, keep=9)
    events, config = folder.events_file.read_bytes(), folder.config_file.read_bytes()
    with pytest.raises(CheckpointError, match="does not match this run"):
        train(settings(tiny_sdxl, root, seed=3), resume=path)
    assert names(folder.checkpoints) == ["step-6", "step-8"]
    assert folder.events_file.read_bytes() == events
    assert folder.config_file.read_bytes() == config


@pytest.mark.parametrize("place", ["elsewhere/step-6", "tiny/checkpoints/step-6-copy"])
def test_a_checkpoint_outside_of_a_run_writes_nowhere(
    tiny_sdxl: Path, root: Path, place: str
) -> None:
    path = root / "runs" / place
    shutil.copytree(root / "runs" / "tiny" / "checkpoints" / "step-6", path)
    with pytest.raises(CheckpointError, match="is a checkpoint outside of a run"):
        train(settings(tiny_sdxl, root), resume=path)


def test_what_cannot_be_moved_stops_before_a_step(tiny_sdxl: Path, root: Path) -> None:
    folder = RunFolder(root / "runs" / "tiny")
    folder.abandoned.write_text("in the way")
    with pytest.raises(OutputError, match=r"cannot be moved to this folder \("):
        train(settings(tiny_sdxl, root), resume=folder.checkpoints / "step-6")
    assert names(folder.checkpoints) == ["step-6", "step-8"]


def test_the_branch_ends_as_the_run_would_with_the_same_settings(
    tiny_sdxl: Path, root: Path, finished: Path
) -> None:
    folder = RunFolder(root / "runs" / "tiny")
    result = train(settings(tiny_sdxl, root), resume=folder.checkpoints / "step-6")
    first = load_checkpoint(finished / "runs" / "tiny" / "checkpoints" / "step-8")
    again = factors_of(result)
    assert first.factors.keys() == again.keys()
    assert all(torch.equal(first.factors[name], again[name]) for name in again)
