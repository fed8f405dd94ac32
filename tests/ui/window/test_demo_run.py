"""The window with real trainings of the demo: a process, a queue, files."""

from __future__ import annotations

import subprocess
import sys
import time
from pathlib import Path

import pytest

import helpers
from stiefel_lora.config.presets import find_config
from stiefel_lora.jobs import JobState, cancel_jobs
from stiefel_lora.ui.controllers.document import Document

pytestmark = pytest.mark.slow

# Loading the demo takes seconds, on a busy machine minutes.
PATIENCE_MS = 600_000
SMALL = {
    "steps": 40,
    "batch_size": 2,
    "rank_every": 2,
    "samples": [],
    "sample_every": 0,
    "validate_every": 0,
    "checkpoint_every": 0,
    "device": "cpu",
}


@pytest.fixture
def small_demo(tmp_path: Path) -> Path:
    """Settings of a demo run of seconds, in a folder with a difficult name."""
    document = Document()
    document.load(find_config("demo_adamw"))
    for key, value in {**SMALL, "output_dir": str(tmp_path / "Läufe 猫")}.items():
        document.set(key, value)
    path = tmp_path / "kleine Demo 猫.json"
    document.save(path)
    return path


@pytest.fixture
def end_all(own_home: Path):
    """Leave no training behind."""
    yield
    from stiefel_lora.jobs import Queue

    queue = Queue()
    cancel_jobs(queue, now=True)
    deadline = time.monotonic() + 60
    while queue.jobs(JobState.RUNNING) and time.monotonic() < deadline:
        queue.reap_dead_jobs()
        time.sleep(0.2)


def only_job(window):
    (job,) = window.runs.trainings.jobs()
    return job


def test_train_stop_resume_and_find_the_file(open_window, qtbot, small_demo, end_all):
    window = open_window()
    window.open_file(small_demo)
    window.document.set("run_name", "Kätzchen 猫")
    panel = window.settings.optimizer
    panel.combo.activated.emit(panel.combo.findText("Stiefel LoRA"))
    alpha = dict(window.settings.rows())["lora_alpha"]
    assert not alpha.editor.isEnabled()
    assert "because Stiefel LoRA controls the LoRA scale" in alpha.note.text()

    run = window.runs.run_tab
    window.top.start.click()
    assert window.tabs.currentWidget() is run
    heat_map = run.draw().heat_map
    qtbot.waitUntil(
        lambda: heat_map.image.image is not None and len(heat_map.image.image) >= 2,
        timeout=PATIENCE_MS,
    )
    run.buttons["stop"].click()
    qtbot.waitUntil(
        lambda: only_job(window).state is JobState.PAUSED, timeout=PATIENCE_MS
    )
    window.runs.look()
    stopped = window.runs.record.step
    assert 0 < stopped < SMALL["steps"]
    assert run.buttons["resume"].isEnabled()
    assert "checkpoint saved" in run.title.text()

    run.buttons["resume"].click()
    qtbot.waitUntil(
        lambda: only_job(window).state is JobState.DONE, timeout=PATIENCE_MS
    )
    window.runs.look()
    record = window.runs.record
    assert record.step == SMALL["steps"]
    # A stop measures once more.
    assert set(range(2, SMALL["steps"] + 1, 2)) <= set(record.ranks.steps)
    assert record.ranks.shares.min() > 128
    names = sorted(path.name for path in record.lora_files if path.is_file())
    assert names == ["Kätzchen 猫.safetensors", "Kätzchen 猫_peft.safetensors"]
    kinds = [line.split('"')[3] for line in events(record)]
    assert kinds.count("resume") == 1
    assert "Run folder" in run.log.toPlainText()


def events(record) -> list[str]:
    return record.folder.events_file.read_text(encoding="utf-8").splitlines()


def test_a_killed_window_stops_no_training_and_the_next_one_finds_it(
    open_window, qtbot, small_demo, end_all
):
    script = Path(helpers.__path__[0]) / "press_start.py"
    first = subprocess.Popen([sys.executable, str(script), str(small_demo)])
    from stiefel_lora.jobs import Queue

    def trains() -> bool:
        found = Queue().jobs(JobState.RUNNING)
        return bool(found) and found[0].folder.events_file.is_file()

    try:
        qtbot.waitUntil(trains, timeout=PATIENCE_MS)
    finally:
        first.kill()
        first.wait()

    window = open_window()
    runs = window.runs
    window.show_tab(runs.run_tab)
    assert runs.record is not None
    assert runs.record.folder.root.name == "demo_adamw"
    seen = runs.record.step
    qtbot.waitUntil(lambda: runs.record.step > seen, timeout=PATIENCE_MS)
    qtbot.waitUntil(
        lambda: only_job(window).state is JobState.DONE, timeout=PATIENCE_MS
    )
    # Events are read every half second, and the queue may be ahead of them.
    qtbot.waitUntil(lambda: runs.record.step == SMALL["steps"], timeout=PATIENCE_MS)
    assert only_job(window).attempt == 1
