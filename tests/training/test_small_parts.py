"""Events, orders, run folders, noise: small parts with small tests."""

from __future__ import annotations

import json
import math
import sys
import warnings
from pathlib import Path

import pytest
import torch
from PIL import Image

from stiefel_lora import NonFiniteError
from stiefel_lora._entry import hush_libraries
from stiefel_lora.runs.commands import take_commands
from stiefel_lora.runs.events import JsonlSink
from stiefel_lora.runs.run_folder import create_run_folder, existing_run_folders
from stiefel_lora.training import RunFolder, read_events, send_command
from stiefel_lora.training.checkpointing.identity import changed_settings
from stiefel_lora.training.finite import check_blocks, check_finite
from stiefel_lora.training.image_grid import image_grid
from stiefel_lora.training.samples import unique_titles


def test_events_are_lines_of_json(tmp_path: Path) -> None:
    path = tmp_path / "events.jsonl"
    sink = JsonlSink(path)
    sink.scalars("train", 3, {"loss/train": 0.5, "bad": math.nan})
    sink.event("checkpoint", 4, {"path": tmp_path})
    sink.close()
    lines = [json.loads(line) for line in path.read_text().splitlines()]
    assert [line["type"] for line in lines] == ["train", "checkpoint"]
    assert lines[0]["values"] == {"loss/train": 0.5, "bad": None}
    assert lines[1]["values"] == {"path": str(tmp_path)}


def test_names_of_files_that_are_not_utf8_come_back_from_events(tmp_path: Path) -> None:
    path = tmp_path / "events.jsonl"
    sink = JsonlSink(path)
    sink.event("start", 0, {"unreadable": ["caf\udce9.png", "gr\u00fcn"]})
    sink.close()
    assert "gr\u00fcn".encode() in path.read_bytes()
    (event,) = read_events(path)
    assert event["values"]["unreadable"] == ["caf\udce9.png", "gr\u00fcn"]


def test_half_a_line_of_a_killed_process_swallows_nothing(tmp_path: Path) -> None:
    path = tmp_path / "events.jsonl"
    path.write_text('{"type": "train", "step": 1, "values": {}}\n{"type": "tra')
    sink = JsonlSink(path)
    sink.event("resume", 1, {})
    sink.close()
    assert [event["type"] for event in read_events(path)] == ["train", "resume"]


def test_orders_are_taken_once_and_other_files_stay(tmp_path: Path) -> None:
    send_command(tmp_path, "sample")
    send_command(tmp_path, "stop")
    folder = RunFolder(tmp_path).commands
    (folder / "notes.txt").touch()
    assert take_commands(folder) == {"sample", "stop"}
    assert take_commands(folder) == set()
    assert [path.name for path in folder.iterdir()] == ["notes.txt"]
    assert take_commands(tmp_path / "gone") == set()


def test_run_folders_count_up(tmp_path: Path) -> None:
    made = [create_run_folder(tmp_path, "cat").root.name for _ in range(3)]
    assert made == ["cat", "cat-2", "cat-3"]
    found = [folder.root.name for folder in existing_run_folders(tmp_path, "cat")]
    assert found == ["cat-3", "cat-2", "cat"]


def test_first_bad_gradient_is_named_after_weights() -> None:
    adapters = {
        f"layer.{i}.lora_{part}.weight": torch.ones(3, requires_grad=True)
        for i in range(3)
        for part in ("A.default", "B.default", "magnitude_vector.default")
    }
    bad = adapters["layer.1.lora_B.default.weight"]
    bad.grad = torch.full((3,), math.inf)
    with pytest.raises(NonFiniteError) as error:
        check_finite(math.inf, "loss", step=7, adapters=adapters, last=Path("step-5"))
    assert str(error.value) == (
        "Step 7: the loss is inf. The first block with NaN or infinity is layer.1 "
        "(gradient of B). The last valid checkpoint is step-5. Lower learning_rate, "
        'or set train_dtype and weight_dtype to "bfloat16" or "float32".'
    )
    with torch.no_grad():
        adapters["layer.2.lora_magnitude_vector.default.weight"][0] = math.nan
    with pytest.raises(NonFiniteError, match=r"layer.2 \(weight of magnitude_vector\)"):
        check_blocks(adapters, step=7, last=None)
    check_finite(1.0, "loss", step=7, adapters=adapters, last=None)


def test_changed_settings_leave_out_places_and_notes() -> None:
    before = {"steps": 1, "seed": 2, "comment": "a", "output_dir": "x"}
    now = {"steps": 3, "seed": 2, "comment": "b", "output_dir": "y", "new": 1}
    assert changed_settings(before, now) == {"steps": "1 -> 3"}


@pytest.mark.parametrize(
    ("prompts", "titles"),
    [
        (["a", "b"], ["a", "b"]),
        (["a", "a", "a"], ["a", "a (2)", "a (3)"]),
        (["a", "a", "a (2)"], ["a", "a (3)", "a (2)"]),
        (["", "", "a (2)", "a", "a"], ["", " (2)", "a (2)", "a", "a (3)"]),
    ],
)
def test_samples_of_one_prompt_have_a_title_each(
    prompts: list[str], titles: list[str]
) -> None:
    assert unique_titles(prompts) == titles


@pytest.mark.parametrize("side", [16, 64, 1024])
def test_grid_enlarges_small_images_by_whole_numbers(side: int) -> None:
    red, blue = (Image.new("RGB", (side, side), c) for c in ("red", "blue"))
    caption = "a very long caption that has to be broken into several lines somehow"
    grid = image_grid([caption, "b"], ["before", "after"], [[red, red], [blue, blue]])
    scale = max(1, -(-160 // side))
    colors = {color: count for count, color in grid.getcolors(1 << 24)}
    assert colors[255, 0, 0] == colors[0, 0, 255] == 2 * (side * scale) ** 2


def test_warnings_of_libraries_about_each_other_are_suppressed(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(sys, "warnoptions", [])
    with warnings.catch_warnings(record=True) as found:
        warnings.simplefilter("always")
        hush_libraries()
        for text in ("`is_gradient_checkpointing` is deprecated and will", "other"):
            warnings.warn(text, FutureWarning, stacklevel=1)
    assert [str(each.message) for each in found] == ["other"]
