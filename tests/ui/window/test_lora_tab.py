"""The tab LoRA files: inspect, resize, merge and save without a screen."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import psutil
import pytest
import safetensors.torch
import torch
from PySide6.QtCore import QObject
from shiboken6 import delete, isValid

from helpers.lora_files import dense as dense_updates
from helpers.lora_files import make, stack, write
from stiefel_lora.files import inspect_lora, open_lora
from stiefel_lora.ui.controllers.lora_files import Result, parse_entry
from stiefel_lora.ui.views.command_process import CommandProcess


@pytest.fixture
def tab(qtbot):
    from stiefel_lora.ui.views.lora_tab import LoraTab

    made = LoraTab()
    qtbot.addWidget(made)
    yield made
    made.close_files()


def settled(qtbot, tab, count: int) -> None:
    qtbot.waitUntil(
        lambda: not tab._process.is_running and len(tab.entries) == count,
        timeout=120_000,
    )


@pytest.mark.slow
def test_inspect_resize_merge_and_save(qtbot, tab, tmp_path: Path):
    paths = [tmp_path / f"{name}.safetensors" for name in "ab"]
    files = [write(path, make(seed=seed)) for seed, path in enumerate(paths)]
    tab.open_files(paths)
    settled(qtbot, tab, 2)
    assert [tab.table.item(row, 0).text() for row in (0, 1)] == [p.name for p in paths]
    assert tab.table.item(0, 2).text() == "sdxl"
    tab.rank.setValue(1)
    tab.resize_.click()
    settled(qtbot, tab, 2)
    assert tab.state.text().startswith("Relative error 0.")
    assert "Not saved yet" in tab.state.text()
    tab.save_to(tmp_path / "small")
    small = open_lora(tmp_path / "small.safetensors")
    assert {layer.factors.rank for layer in small.layers} == {1}
    before = paths[1].read_bytes()
    errors: list[str] = []
    tab.failed.connect(lambda what, why: errors.append(why))
    tab.save_to(tmp_path / "small")
    tab.save_to(tmp_path / "small.ckpt")
    tab.save_to(paths[1])
    assert "small.safetensors already exists. Choose another name" in errors[0]
    assert "has the suffix of another format" in errors[1]
    assert "is an input" in errors[2]
    assert paths[1].read_bytes() == before
    tab.save_to(tmp_path / "small.safetensors")
    assert len(errors) == 3
    tab.table.item(1, 1).setText("0.5")
    tab.merge.click()
    settled(qtbot, tab, 2)
    tab.save_to(tmp_path / "sum.safetensors")
    found = stack(dense_updates(open_lora(tmp_path / "sum.safetensors")))
    one, two = (stack(dense_updates(file)) for file in files)
    assert float((found - one - 0.5 * two).norm()) < 1e-5 * float(found.norm())


@pytest.mark.slow
def test_convert_verify_and_extract(qtbot, tab, tmp_path: Path):
    from helpers.tiny_sd15 import _unet

    path = tmp_path / "a.safetensors"
    file = write(path, make())
    tab.open_files([path])
    settled(qtbot, tab, 1)
    tab.verify.click()
    settled(qtbot, tab, 1)
    assert "ComfyUI" in tab.state.text()
    assert "3 of 3 layers" in tab.state.text()
    assert not tab.save.isEnabled()
    exact = stack(dense_updates(file))
    tab.spelling.setCurrentText("peft-folder")
    tab.convert.click()
    settled(qtbot, tab, 1)
    assert "Not saved yet" in tab.state.text()
    tab.save_to(tmp_path / "b")
    found = open_lora(tmp_path / "b")
    assert found.spelling == "PEFT (own)"
    assert float((stack(dense_updates(found)) - exact).norm()) < 1e-5
    told = []
    tab.failed.connect(lambda what, why: told.append(why))
    tab.save_to(tmp_path / "b")
    assert len(told) == 1
    assert not list(tmp_path.glob(".*"))
    model = _unet()
    base, tuned = tmp_path / "base.safetensors", tmp_path / "tuned.safetensors"
    safetensors.torch.save_file(model.state_dict(), base)
    key = "mid_block.attentions.0.transformer_blocks.0.attn1.to_q.weight"
    state = {k: t.clone() for k, t in model.state_dict().items()}
    state[key] += torch.outer(torch.ones(state[key].shape[0]), state[key][0])
    safetensors.torch.save_file(state, tuned)
    tab.rank.setValue(1)
    tab.start_extract(base, tuned)
    settled(qtbot, tab, 1)
    tab.save_to(tmp_path / "c.safetensors")
    (layer,) = open_lora(tmp_path / "c.safetensors").layers
    update = layer.factors.scale * layer.factors.up.float() @ layer.factors.down.float()
    wanted = state[key] - model.state_dict()[key]
    assert float((update - wanted).norm()) < 1e-2 * float(wanted.norm())


def test_unreadable_files_are_reported(qtbot, tab, tmp_path: Path):
    path = tmp_path / "bad.safetensors"
    path.write_bytes(b"no")
    told = []
    tab.failed.connect(lambda what, why: told.append(why))
    tab.open_files([path])
    qtbot.waitUntil(lambda: bool(told), timeout=120_000)
    assert "is damaged or not a safetensors file" in told[0]
    assert not tab.merge.isEnabled()


@pytest.mark.slow
def test_many_unreadable_files_are_one_message(qtbot, tab, tmp_path: Path):
    paths = [tmp_path / f"bad{n}.safetensors" for n in range(2)]
    for path in paths:
        path.write_bytes(b"no")
    shown = []
    tab.failed.connect(lambda what, why: shown.append((what, why)))
    tab.open_files(paths)
    qtbot.waitUntil(lambda: bool(shown), timeout=120_000)
    ((what, why),) = shown
    assert what == "2 files cannot be read."
    assert [line.partition(" is ")[0] for line in why.splitlines()] == [
        *map(str, paths)
    ]


def broken(path: Path) -> str:
    """A file with NaN in its second layer, whose name is returned."""
    tensors = make()
    up = [key for key in tensors if ".lora_up." in key][1]
    tensors[up][0, 0] = float("nan")
    return write(path, tensors | {"strange.key": torch.ones(1)}).layers[1].name


@pytest.mark.slow
def test_a_file_with_nan_is_shown_and_only_that(qtbot, tab, tmp_path: Path):
    name = broken(tmp_path / "b.safetensors")
    write(tmp_path / "a.safetensors", make())
    write(tmp_path / "c.safetensors", make(seed=1))
    cut = (tmp_path / "a.safetensors").read_bytes()[:300]
    (tmp_path / "cut.safetensors").write_bytes(cut)
    errors: list[str] = []
    tab.failed.connect(lambda what, why: errors.append(why))
    tab.open_files([tmp_path / f"{x}.safetensors" for x in ("a", "cut", "b", "c")])
    settled(qtbot, tab, 3)
    assert len(errors) == 1
    assert errors[0].count(". ") == 1
    assert "cut.safetensors is damaged" in errors[0]
    names = [tab.table.item(row, 0).text() for row in range(3)]
    assert names == ["a.safetensors", "b.safetensors", "c.safetensors"]
    changing = (tab.resize_, tab.convert, tab.verify, tab.merge, tab.merge_small)
    tab.table.selectRow(0)
    assert [button.isEnabled() for button in changing] == [True] * 3 + [False] * 2
    assert f"b.safetensors: NaN or infinity in {name}" in tab.merge.toolTip()
    assert tab.notes.text() == ""
    tab.table.selectRow(1)
    assert not any(button.isEnabled() for button in changing)
    assert f"NaN or infinity in {name}." in tab.notes.text()
    assert "not written to results: strange.key." in tab.notes.text()
    assert tab.table.item(1, 8).text() == "1 not finite"
    entry = tab.entries[1]
    report = inspect_lora(open_lora(tmp_path / "b.safetensors"))
    assert entry.describe(0, 1) == f"{name}: NaN or infinity"
    assert np.isnan(entry.levels[:3, 1]).all()
    for row in (0, 2):
        assert entry.spectra[row] == pytest.approx(report.layers[row].spectrum)
        assert entry.levels[0, row] > 0
    tab.remove.click()
    assert all(button.isEnabled() for button in changing)
    assert tab.merge.toolTip().startswith("Merge all files")


def test_a_program_that_does_not_start_is_an_error(qtbot):
    owner = QObject()
    process = CommandProcess(owner)
    found: list[tuple[int, str]] = []
    process.ended.connect(lambda code, _, errors: found.append((code, errors)))
    process.start(["/no/such/program"])
    qtbot.waitUntil(lambda: bool(found))
    assert found[0][0] != 0
    assert "could not be started" in found[0][1]
    assert not process.is_running


_LATE = """
import sys
from pathlib import Path
from PySide6.QtCore import QTimer
from stiefel_lora.ui.controllers.memory import Memory
from stiefel_lora.ui.views.app import make_application
from stiefel_lora.ui.views.window import MainWindow

app = make_application()
window = MainWindow(Memory.load())
window.restore()
window.show()
window.runs._timer.stop()
files = [Path(path) for path in sys.argv[2:]]
ends = {"close": window.close, "exit": app.exit, "delete": window.deleteLater}

def end():
    assert window.lora._process.is_running
    print(window.lora._process._process.processId(), window.lora._folder.name)
    QTimer.singleShot(200, app.exit)
    ends[sys.argv[1]]()

def begin():
    window.lora.open_files(files)
    window.lora._process._process.started.connect(end)

QTimer.singleShot(0, begin)
app.exec()
"""


@pytest.mark.slow
@pytest.mark.parametrize("way", ["close", "exit", "delete"])
def test_the_window_ends_while_a_file_is_inspected(way, tmp_path: Path):
    paths = [tmp_path / f"{name}.safetensors" for name in "ab"]
    for path in paths:
        write(path, make())
    ran = subprocess.run(
        [sys.executable, "-c", _LATE, way, *map(str, paths)],
        env=os.environ | {"QT_QPA_PLATFORM": "offscreen"},
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert ran.returncode == 0, ran.stderr
    assert "Error" not in ran.stderr
    if way != "delete":
        assert "still running" not in ran.stderr
    number, folder = ran.stdout.split()
    assert not psutil.pid_exists(int(number))
    assert not Path(folder).exists()


def test_a_process_that_qt_has_deleted_can_be_stopped(qtbot):
    """Qt deletes the processes of a window together with it, while one is running."""
    parent = QObject()
    process = CommandProcess(parent)
    process.start([sys.executable, "-c", "import time; time.sleep(60)"])
    inner = process._process
    delete(inner)
    assert not isValid(inner)
    process.stop()
    assert not process.is_running


def test_levels_of_the_image(tmp_path: Path):
    report = inspect_lora(write(tmp_path / "a.safetensors", make()))
    entry = parse_entry(json.dumps(report.to_json()))
    top = max(layer.spectrum[0] for layer in report.layers)
    for row, layer in enumerate(report.layers):
        levels = 1 + np.log10(np.array(layer.spectrum) / top) / 3
        assert np.allclose(entry.levels[: len(levels), row], levels.clip(0, 1))
        assert layer.name in entry.describe(0, row)
    assert entry.describe(99, 0) == ""
    result = Result.parse('{"error": 0.25, "size": 2000000, "checks": ["x"]}')
    assert result.summary() == "Relative error 0.25, 2.00 MB."
