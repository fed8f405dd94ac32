"""The run that a resume selects, and images that changed in between."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from typer.testing import CliRunner

from helpers.fixtures import StopAfter
from helpers.runs import assert_same_factors, tiny_config
from stiefel_lora import CheckpointError
from stiefel_lora._commands import app
from stiefel_lora.config import dump_lean, parse_config
from stiefel_lora.runs.run_folder import existing_run_folders
from stiefel_lora.training import RunFolder, read_events
from stiefel_lora.training.checkpointing.checkpoint import list_checkpoints
from stiefel_lora.training.checkpointing.resume import find_run
from stiefel_lora.training.trainer import train


@pytest.fixture(scope="module")
def two(tiny_sdxl: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Runs q and q-2 of q.json, both of one step; do not change them."""
    root = tmp_path_factory.mktemp("two")
    config = tiny_config(
        tiny_sdxl, root, steps=1, run_name="q", cache_dir=str(root / "cache")
    )
    for _ in range(2):
        train(config)
    return root


@pytest.fixture
def root(two: Path, tiny_sdxl: Path, tmp_path: Path) -> Path:
    shutil.copytree(two, tmp_path, dirs_exist_ok=True)
    config = tiny_config(tiny_sdxl, tmp_path, run_name="q")
    (tmp_path / "q.json").write_text(dump_lean(config), encoding="utf-8")
    return tmp_path


def resume(config: Path, *more: str) -> Any:
    command = ["train", str(config), "--resume", *more, "--set", "steps=2"]
    return CliRunner().invoke(app, command)


def steps(root: Path) -> dict[str, list[str]]:
    return {
        run.name: [path.name for path in list_checkpoints(run / "checkpoints")]
        for run in sorted((root / "runs").iterdir())
        if run.name[0] != "."
    }


BOTH = ["step-1", "step-2"]


@pytest.mark.parametrize("more", [(), ("last",)])
def test_a_config_inside_a_run_folder_means_that_run(root: Path, more: tuple) -> None:
    other = (root / "runs" / "q-2" / "config.json").read_bytes()
    done = resume(root / "runs" / "q" / "config.json", *more)
    assert done.exit_code == 0, done.output
    assert steps(root) == {"q": BOTH, "q-2": ["step-1"]}
    assert (root / "runs" / "q-2" / "config.json").read_bytes() == other


def test_also_when_the_first_run_is_gone_or_the_folder_has_another_name(
    root: Path,
) -> None:
    runs = root / "runs"
    (runs / "q").rename(runs / "moved here")
    for name in ("q-2", "moved here"):
        done = resume(runs / name / "config.json")
        assert done.exit_code == 0, done.output
    assert steps(root) == {"q-2": BOTH, "moved here": BOTH}


def test_a_run_folder_without_a_checkpoint_is_not_another_run(root: Path) -> None:
    run = root / "runs" / "q"
    shutil.rmtree(run / "checkpoints")
    done = resume(run / "config.json")
    assert done.exit_code == 2
    assert f"There is no checkpoint in {run}" in done.stderr
    assert steps(root)["q-2"] == ["step-1"]


def test_a_config_of_one_run_and_a_checkpoint_of_another(root: Path) -> None:
    runs = root / "runs"
    before = (runs / "q-2" / "config.json").read_bytes()
    for place in (runs / "q-2", runs / "q-2" / "checkpoints" / "step-1"):
        done = resume(runs / "q" / "config.json", str(place))
        assert done.exit_code == 2
        assert f"was not started with {runs / 'q' / 'config.json'}" in done.stderr
    assert (runs / "q-2" / "config.json").read_bytes() == before
    own = runs / "q" / "checkpoints" / "step-1"
    assert resume(runs / "q" / "config.json", str(own)).exit_code == 0


@pytest.mark.parametrize(
    ("name", "rule"),
    [
        ("x" * 300, "must have at most 255 bytes in each file or folder name."),
        ("a\0b", "must not contain a null character."),
        ("\ud800", "must be valid Unicode text."),
    ],
)
def test_a_resume_from_what_is_no_path(tmp_path: Path, name: str, rule: str) -> None:
    config = parse_config({"run_name": "q", "output_dir": str(tmp_path)})
    with pytest.raises(CheckpointError) as error:
        find_run(config, name)
    assert str(error.value).startswith(f"--resume {name!a} {rule} It must be 'last'")


def test_an_order_to_what_is_no_path() -> None:
    result = CliRunner().invoke(app, ["tell", "stop", "x" * 300])
    assert result.exit_code == 2
    assert "is not a run folder" in result.stderr


@pytest.mark.parametrize("codec", ["utf-8-sig", "utf-16"])
def test_a_config_that_an_editor_saved_is_read(root: Path, codec: str) -> None:
    path = root / "runs" / "q-2" / "config.json"
    data = {**json.loads(path.read_text()), "run_name": "q-2"}
    path.write_text(json.dumps(data), encoding=codec)
    runs = existing_run_folders(root / "runs", "q")
    assert [run.root.name for run in runs] == ["q"]
    result = resume(path)
    assert result.exit_code == 0, result.output
    assert "Changed settings: steps 1 -> 2." in result.stderr


def test_last_of_a_config_elsewhere_is_the_run_that_began_last(root: Path) -> None:
    shutil.rmtree(root / "runs" / "q")
    assert resume(root / "q.json").exit_code == 0
    assert steps(root) == {"q-2": BOTH}


def test_runs_by_when_they_began_and_by_the_name_they_have(tmp_path: Path) -> None:
    def write(folder: str, name: str | None, time: float | None) -> None:
        run = RunFolder(tmp_path / folder)
        run.root.mkdir()
        if name:
            run.config_file.write_text(json.dumps({"run_name": name}))
        if time:
            run.events_file.write_text(f'{{"type": "start", "time": {time}}}\n{{}}\n')

    write("cat", "cat", 30.0)
    write("cat-2", "cat", 10.0)
    write("cat-7", "cat", 20.0)
    # A separate run, not the third of cat.
    write("cat-3", "cat-3", 90.0)
    write("cat-old", "cat", 90.0)
    write("cat-4", None, None)
    write("cat-10", None, None)
    (tmp_path / "cat-5").write_text("a file")
    found = [folder.root.name for folder in existing_run_folders(tmp_path, "cat")]
    assert found == ["cat", "cat-7", "cat-2", "cat-10", "cat-4"]
    assert existing_run_folders(tmp_path / "gone", "cat") == []


def make(path: Path, seed: int = 9) -> None:
    pixels = np.random.default_rng(seed).integers(0, 256, (32, 32, 3), dtype=np.uint8)
    Image.fromarray(pixels).save(path)


CHANGES = {
    "added": (
        "concepts: images changed since the checkpoint: 1 added (new.png). After "
        "step 2, the images are in the order of the changed dataset"
    ),
    "removed": "concepts: images changed since the checkpoint: 1 removed (00.png).",
    "renamed": "changed since the checkpoint: 1 added (zz.png); 1 removed (00.png). A",
    "captions": (
        "1 with changed captions (01.png). The order is unchanged. The changed "
    ),
    "content": "1 with changed content or mask (01.png). The order is unchanged,",
    "mask": "1 with changed content or mask (02.png). The order is unchanged,",
    "validation": (
        "validation_concepts: images changed since the checkpoint: 1 added (new.png). "
        "Validation losses before and after step 2 are not comparable."
    ),
}


@pytest.fixture(scope="module")
def stopped(tiny_sdxl: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("stopped")
    train(tiny_config(tiny_sdxl, root, steps=2, cache_dir=str(root / "cache")))
    return root


@pytest.mark.parametrize("what", [*CHANGES, "nothing"])
def test_changed_images_are_reported_and_what_they_mean_for_the_order(
    tiny_sdxl: Path,
    stopped: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    what: str,
) -> None:
    shutil.copytree(stopped, tmp_path, dirs_exist_ok=True)
    # Its folders are made afresh by this, with the same content.
    config = tiny_config(tiny_sdxl, tmp_path, steps=3)
    images = tmp_path / "train"
    if what == "added":
        make(images / "new.png")
    elif what == "removed":
        (images / "00.png").unlink()
    elif what == "renamed":
        (images / "00.png").rename(images / "zz.png")
    elif what == "captions":
        (images / "01.txt").write_text("another thing")
    elif what == "content":
        make(images / "01.png", seed=8)
        Image.open(images / "01.png").crop((0, 0, 32, 31)).save(images / "01.png")
    elif what == "mask":
        make(images / "02-masklabel.png")
    elif what == "validation":
        make(tmp_path / "held_out" / "new.png")
    capsys.readouterr()
    result = train(config, resume="last")
    shown = " ".join(capsys.readouterr().err.split())
    events = read_events(result.run_dir / "events.jsonl")
    message = [e for e in events if e["type"] == "resume"][-1]["values"]["images"]
    if what == "nothing":
        assert message == []
        assert "since the checkpoint" not in shown
    else:
        assert len(message) == 1
        assert CHANGES[what] in message[0]
        assert message[0] in shown


def test_folders_that_moved_are_the_same_images(
    tiny_sdxl: Path,
    tmp_path: Path,
    stop_after: StopAfter,
    capsys: pytest.CaptureFixture[str],
) -> None:
    config = tiny_config(tiny_sdxl, tmp_path)
    whole = train(config.model_copy(update={"run_name": "whole"}))
    with stop_after(2, "stop"):
        train(config)
    (tmp_path / "train").rename(tmp_path / "moved")
    moved = [{"path": str(tmp_path / "moved")}]
    again = tiny_config(tiny_sdxl, tmp_path, concepts=moved)
    assert_same_factors(whole, train(again, resume="last"))
    assert "since the checkpoint" not in capsys.readouterr().err
