"""Order, remaining time and names of the jobs in a queue."""

from __future__ import annotations

import re
import sqlite3
import time

import pytest
from typer.testing import CliRunner

from stiefel_lora import QueueError, _commands
from stiefel_lora.jobs import (
    JobState,
    Queue,
    Watch,
    add_jobs,
    clear_jobs,
    make_plans,
    move_job,
    pause_jobs,
)
from stiefel_lora.runs.events import JsonlSink
from stiefel_lora.runs.pace import Pace


def run(*args: object):
    return CliRunner().invoke(_commands.app, [str(arg) for arg in args])


@pytest.fixture
def queue(tmp_path, monkeypatch, config) -> Queue:
    """A queue of four jobs."""
    monkeypatch.setenv("STIEFEL_LORA_QUEUE", str(tmp_path / "queue"))
    found = Queue()
    add_jobs(found, make_plans([str(config)], [], ["seed=1,2,3,4"]))
    return found


def order(queue: Queue) -> list[int]:
    return [job.id for job in queue.jobs()]


def claim(queue: Queue) -> int:
    return queue.claim(lambda running: "").id


@pytest.mark.parametrize(
    ("number", "where", "expected"),
    [
        (3, "first", [3, 1, 2, 4]),
        (3, "up", [1, 3, 2, 4]),
        (2, "down", [1, 3, 2, 4]),
        (1, "last", [2, 3, 4, 1]),
        (1, "up", [1, 2, 3, 4]),
        (4, "down", [1, 2, 3, 4]),
    ],
)
def test_a_moved_job_is_listed_and_started_at_its_place(queue, number, where, expected):
    assert move_job(queue, number, where).id == number
    assert order(queue) == expected
    assert order(Queue()) == expected
    assert [claim(queue) for _ in expected] == expected


def test_only_jobs_that_wait_are_moved(queue):
    assert claim(queue) == 1
    with pytest.raises(QueueError, match=r"Job 1 .* is running\. Only waiting or"):
        move_job(queue, 1, "last")
    pause_jobs(queue, [2])
    move_job(queue, 4, "first")
    assert order(queue) == [1, 4, 2, 3]
    move_job(queue, 2, "last")
    assert order(queue) == [1, 4, 3, 2]
    assert claim(queue) == 4


def test_a_new_job_is_last_after_moves(queue, config):
    move_job(queue, 1, "last")
    (new,) = add_jobs(queue, make_plans([str(config)], [], ["seed=9"]))
    assert order(queue) == [2, 3, 4, 1, new.id]
    assert clear_jobs(queue) == []


def test_a_queue_of_an_earlier_version_gets_the_order(queue):
    with sqlite3.connect(queue.store.path) as db:
        db.execute("DROP TABLE job_order")
    move_job(Queue(), 2, "first")
    assert order(Queue()) == [2, 1, 3, 4]


def test_the_command_moves(queue):
    assert run("queue", "move", 3).stdout == (
        "Moved: 3 cats-seed_3\nOrder: 3, 1, 2, 4\n"
    )
    assert run("queue", "move", 3, "last").stdout.endswith("Order: 1, 2, 4, 3\n")
    refused = run("queue", "move", 3, "middle")
    assert refused.exit_code == 2
    assert "WHERE: middle is not supported. Use one of first, up" in refused.stderr
    assert run("queue", "move", 99).exit_code == 2


def test_the_remaining_time_is_that_of_the_recent_steps():
    pace = Pace()
    assert pace.seconds_left(100) is None
    for step in range(1, 11):
        pace.take(step, 1000 + 2.0 * step)
    assert pace.seconds_left(100) == pytest.approx(180)
    for step in range(11, 70):
        pace.take(step, 2000 + 0.5 * step)
    assert pace.seconds_left(100) == pytest.approx(0.5 * 31)
    pace.restart()
    assert pace.seconds_left(100) is None


def test_the_list_shows_progress_and_time_left(queue):
    claim(queue)
    job = queue.jobs(JobState.RUNNING)[0]
    job.run_dir.mkdir(parents=True)
    sink = JsonlSink(job.folder.events_file)
    sink.event("start", 0, {"steps": job.steps})
    for step in (1, 2, 3):
        sink.scalars("train", step, {"loss/train": 0.5})
        time.sleep(0.01)
    watch = Watch(job)
    watch.progress()
    assert 1 < watch.seconds_left(job) < 1000
    assert Watch(queue.jobs()[1]).seconds_left(queue.jobs()[1]) is None
    listed = run("queue", "list").stdout
    assert f"3/{job.steps} (0 %)" in listed
    assert "time left" in listed
    (row,) = [line for line in listed.splitlines() if "│ running" in line]
    assert re.search(r" \d+:\d\d ", row)


@pytest.mark.parametrize("columns", ["40", "80", "200"])
def test_names_that_differ_at_their_ends_are_never_cut(
    queue, config, monkeypatch, columns
):
    name = "portrait-of-my-dog-with-a-long-name-for-the-second-attempt"
    add_jobs(
        queue,
        make_plans([str(config)], [f"run_name={name}"], ["learning_rate=0.001,0.002"]),
    )
    names = [job.name for job in queue.jobs()[-2:]]
    assert names[0] != names[1]
    listed = run("queue", "list").stdout
    assert all(name in listed for name in names)
    # In a terminal, names continue in the next line.
    import rich.console

    monkeypatch.setattr(rich.console.Console, "is_terminal", True)
    monkeypatch.setenv("COLUMNS", columns)
    listed = run("queue", "list").stdout
    assert "…" not in listed
    cells = [line.split("│")[2].strip() for line in listed.splitlines() if "│" in line]
    assert all(name in "".join(cells) for name in names)
