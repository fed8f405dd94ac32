"""The command ``runs``: what it lists, plots, compares and deletes."""

from __future__ import annotations

import importlib.util
import json
import shutil
from pathlib import Path
from xml.etree import ElementTree

import pytest
from PIL import Image
from typer.testing import CliRunner

from helpers.written_run import WrittenRun
from stiefel_lora._commands import app
from stiefel_lora.runs.remains import remains_of
from stiefel_lora.runs.run_lock import hold_run
from stiefel_lora.runs.run_summary import read_run

needs_matplotlib = pytest.mark.skipif(
    importlib.util.find_spec("matplotlib") is None,
    reason="matplotlib is not installed",
)


def call(*arguments: object, code: int = 0) -> str:
    result = CliRunner().invoke(app, ["runs", *map(str, arguments)])
    assert result.exit_code == code, result.output
    return result.output


def written(
    root: Path, name: str, *, optimizer: str = "adamw", end: str = "end"
) -> Path:
    """Write a run with two measurements, a checkpoint and a LoRA file."""
    run = WrittenRun(root / name)
    config = {
        "run_name": name,
        "model_type": "sdxl",
        "optimizer": {"name": optimizer},
        "lora_rank": 16,
        "steps": 100,
        "learning_rate": 0.01,
    }
    (run.root / "config.json").write_text(json.dumps(config), encoding="utf-8")
    run.start()
    for step in (50, 100):
        run.train(step, loss=10 / step)
        run.ranks(step)
        run.sink.scalars("validation", step, {"validation/loss": 5 / step})
        shares = [0.7 - step / 1000, 0.3 + step / 1000]
        run.sink.event("spectrum", step, {"mean_shares": shares})
    (run.root / "checkpoints/step-100").mkdir(parents=True)
    (run.root / "checkpoints/step-100/state.json").write_text("{}")
    if end:
        run.sink.event(end, 100, {"message": "The loss is NaN.", "lora_files": []})
    if end == "end":
        (run.root / "lora" / f"{name}.safetensors").write_bytes(b"0" * 100)
    run.sink.close()
    return run.root


def test_the_list_has_settings_results_and_the_end(tmp_path: Path) -> None:
    written(tmp_path, "done")
    written(tmp_path, "bad", end="error")
    written(tmp_path, "cut", end="stop")
    written(tmp_path, "gone", end="")
    found = {row["run"]: row for row in json.loads(call("list", tmp_path, "--json"))}
    states = {name: row["state"] for name, row in found.items()}
    assert states == {
        "done": "finished",
        "bad": "failed: The loss is NaN.",
        "cut": "interrupted",
        "gone": "killed",
    }
    row = found["done"]
    assert (row["optimizer"], row["rank"], row["step"]) == ("adamw", "16", "100/100")
    assert row["training loss"] == 0.1
    assert row["validation loss"] == 0.05
    assert row["effective rank"] == 8
    table = call("list", tmp_path)
    assert len(table.splitlines()) == 5
    assert "0.05" in table
    with hold_run(tmp_path / "gone"):
        # A lock of this process counts as that of any other.
        assert read_run(tmp_path / "gone").state == "running"


def test_one_run_is_shown(tmp_path: Path) -> None:
    text = call("show", written(tmp_path, "done"))
    assert "done.safetensors" in text
    assert "step-100" in text
    assert "finished" in text
    message = call("show", tmp_path, code=2)
    assert "is not a run folder: it contains no events.jsonl" in message
    assert "no runs in" in call("list", tmp_path / "done" / "lora")


@needs_matplotlib
def test_plots_are_png_svg_and_html(tmp_path: Path) -> None:
    run, other = written(tmp_path, "one"), written(tmp_path, "two")
    assert str(run / "plot.png") in call("plot", run)
    with Image.open(run / "plot.png") as image:
        assert image.format == "PNG"
        assert len(image.convert("L").getcolors() or ()) > 20
    call("plot", run, "--output", tmp_path / "a.svg")
    svg = (tmp_path / "a.svg").read_text()
    ElementTree.fromstring(svg)
    call("plot", run, other, "--output", tmp_path / "b.html")
    page = (tmp_path / "b.html").read_text()
    assert "data:image/svg+xml;base64," in page
    assert "<h1>one, two</h1>" in page
    assert "must be one of" in call("plot", run, "--output", "a.pdf", code=2)


@needs_matplotlib
def test_the_curves_of_a_run_are_those_of_its_events(tmp_path: Path) -> None:
    from stiefel_lora.runs.run_figure import _figure

    run = read_run(written(tmp_path, "one"))
    losses, ranks, blocks, spectrum = _figure([run]).axes[:4]
    lines = {line.get_label(): line.get_xydata().tolist() for line in losses.lines}
    assert lines["validation loss"] == [[50, 0.1], [100, 0.05]]
    assert lines["loss (50-step average)"] == [[50, 0.2], [100, 0.1]]
    assert [8, 8] in [[*line.get_ydata()] for line in ranks.lines]
    # Six blocks, two measurements.
    assert blocks.images[0].get_array().tolist() == [[8, 8]] * 6
    last = spectrum.lines[-1]
    assert last.get_label() == "step 100"
    assert [*last.get_ydata()] == pytest.approx([0.6, 0.4])


def test_a_missing_package_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(__import__("sys").modules, "matplotlib.figure", None)
    text = call("plot", written(tmp_path, "one"), code=2)
    assert "require the package matplotlib" in text
    assert "plots" in text


def test_differences_and_results_are_side_by_side(tmp_path: Path) -> None:
    first = written(tmp_path, "one")
    second = written(tmp_path, "two", optimizer="stiefel_lora", end="error")
    rows = {
        line.split("  ")[0].strip(): line.split()[-1]
        for line in call("compare", first, second).splitlines()
    }
    assert rows["optimizer.name"] == "stiefel_lora"
    assert rows["validation loss"] == "0.05"
    assert "learning_rate" not in rows
    assert "at least two" in call("compare", first, code=2)


def test_nothing_is_deleted_without_being_asked(tmp_path: Path) -> None:
    run = written(tmp_path, "one")
    branch = run / "abandoned" / "after-step-50"
    branch.mkdir(parents=True)
    (branch / "file").write_bytes(b"0" * 2_000_000)
    text = call("clean", tmp_path)
    assert f"{branch}  2.0 MB  (abandoned branch)" in text
    assert "Add --yes to delete: 2.0 MB." in text
    assert branch.exists()
    assert "Deleted: 2.0 MB." in call("clean", tmp_path, "--yes")
    assert not branch.exists()
    # Checkpoints only on request.
    assert (run / "checkpoints/step-100").exists()
    assert "nothing to delete" in call("clean", run)
    call("clean", run, "--checkpoints", "--yes")
    assert not (run / "checkpoints/step-100").exists()
    assert (run / "lora/one.safetensors").exists()


def test_checkpoints_of_other_runs_and_running_ones_stay(tmp_path: Path) -> None:
    cut, run = written(tmp_path, "cut", end="stop"), written(tmp_path, "one")
    assert remains_of(read_run(cut), checkpoints=True) == []
    with hold_run(run):
        text = call("clean", tmp_path, "--checkpoints", "--empty", "--yes")
    assert f"{run}: skipped, because it is running." in text
    assert (run / "checkpoints/step-100").exists()
    assert (cut / "checkpoints/step-100").exists()


def test_runs_without_a_result_are_deleted_on_request(tmp_path: Path) -> None:
    run = WrittenRun(tmp_path / "nothing")
    run.start()
    run.sink.close()
    assert "nothing to delete" in call("clean", tmp_path, "--yes")
    call("clean", tmp_path, "--empty", "--yes")
    assert not run.root.exists()


@pytest.mark.parametrize(
    "name",
    [
        "photos/cat.jpg",
        "notes.txt",
        "best.safetensors",
        "samples/cat.jpg",
        "abandoned/after-step-1/checkpoints/step-2/state.json",
        "lora/mine/notes.txt",
    ],
)
def test_runs_with_files_of_the_user_are_kept(tmp_path: Path, name: str) -> None:
    run = WrittenRun(tmp_path / "nothing")
    run.start()
    run.sink.close()
    other = run.root / name
    other.parent.mkdir(parents=True, exist_ok=True)
    other.write_text("mine")
    text = call("clean", tmp_path, "--empty", "--yes")
    assert f"{run.root}: kept, because it contains {Path(name).parts[0]}" in text
    assert other.read_text() == "mine"


def test_links_are_never_followed(tmp_path: Path) -> None:
    outside = tmp_path / "outside"
    (outside / "after-step-1").mkdir(parents=True)
    (outside / "step-100").mkdir()
    runs = tmp_path / "runs"
    run = written(runs, "one")
    shutil.rmtree(run / "checkpoints")
    for name in ("abandoned", "checkpoints"):
        (run / name).symlink_to(outside)
    (runs / "again").symlink_to(run)
    (run / "abandoned-elsewhere").mkdir()
    text = call("clean", runs, "--checkpoints", "--empty", "--yes")
    for path in (run / "abandoned", run / "checkpoints", runs / "again"):
        assert f"{path}: kept, because it is a link." in text
    assert len(list(outside.iterdir())) == 2


def test_only_branches_are_deleted_and_a_failure_stops_no_other(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = written(tmp_path, "one")
    places = [run / "abandoned" / f"after-step-{n}" for n in (1, 2)]
    for place in (*places, run / "abandoned" / "mine"):
        place.mkdir(parents=True)
        (place / "file").write_text("x")
    (run / "abandoned" / "notes.txt").write_text("mine")
    deleted = shutil.rmtree

    def fail_once(path: Path) -> None:
        if path == places[0]:
            raise PermissionError(13, "Permission denied")
        deleted(path)

    monkeypatch.setattr(shutil, "rmtree", fail_once)
    with pytest.raises(AssertionError, match="cannot be deleted"):
        call("clean", tmp_path, "--yes")
    assert places[0].exists()
    assert not places[1].exists()
    assert sorted(path.name for path in (run / "abandoned").iterdir()) == [
        "after-step-1",
        "mine",
        "notes.txt",
    ]
