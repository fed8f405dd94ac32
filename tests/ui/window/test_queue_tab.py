"""Queue tab: order, progress and time left."""

from __future__ import annotations

import pytest

from helpers.jobs import ready_config
from stiefel_lora.jobs import add_jobs, make_plans
from stiefel_lora.runs.events import JsonlSink


@pytest.fixture
def tab(open_window, tmp_path, monkeypatch):
    """The Queue tab with three waiting jobs, of which none is started."""
    from stiefel_lora.ui.controllers import trainings

    monkeypatch.setattr(trainings, "start_runner", lambda *_: True)
    window = open_window()
    config = ready_config(tmp_path)
    add_jobs(window.runs.trainings.queue, make_plans([str(config)], [], ["seed=1,2,3"]))
    window.show_tab(window.runs.queue_tab)
    return window.runs.queue_tab


def names(tab) -> list[str]:
    return [tab.table.item(row, 0).text()[-1] for row in range(tab.table.rowCount())]


def column(tab, heading: str) -> int:
    count = tab.table.columnCount()
    found = [tab.table.horizontalHeaderItem(at).text() for at in range(count)]
    return found.index(heading)


def test_jobs_are_moved_by_buttons_and_stay_selected(tab):
    assert names(tab) == ["1", "2", "3"]
    tab.table.selectRow(2)
    assert tab.buttons["up"].isEnabled()
    assert not tab.buttons["down"].isEnabled()
    tab.buttons["up"].click()
    assert names(tab) == ["1", "3", "2"]
    assert tab.table.currentRow() == 1
    tab.buttons["up"].click()
    assert names(tab) == ["3", "1", "2"]
    assert not tab.buttons["up"].isEnabled()
    tab.buttons["down"].click()
    assert names(tab) == ["1", "3", "2"]
    assert tab.chosen.name.endswith("3")


def test_a_running_job_is_not_moved_and_shows_progress_and_time_left(tab):
    runs = tab.window().runs
    job = runs.trainings.queue.claim(lambda running: "")
    job.run_dir.mkdir(parents=True)
    sink = JsonlSink(job.folder.events_file)
    sink.event("start", 0, {"steps": job.steps})
    for step in (job.steps // 2 - 1, job.steps // 2):
        sink.scalars("train", step, {"loss/train": 0.5})
    runs.look()
    assert tab.table.item(0, column(tab, "Progress")).text() == "50 %"
    assert ":" in tab.table.item(0, column(tab, "Time left")).text()
    assert tab.table.item(1, column(tab, "Time left")).text() == ""
    tab.table.selectRow(0)
    assert not tab.buttons["down"].isEnabled()
    tab.table.selectRow(1)
    assert not tab.buttons["up"].isEnabled()
    assert runs.status.figures.text().endswith("2 waiting")
