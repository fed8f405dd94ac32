from __future__ import annotations

import multiprocessing
import sqlite3
from collections import Counter
from pathlib import Path

import pytest

from helpers.jobs import kill, python_process, ready_config
from stiefel_lora import OutputError, QueueError
from stiefel_lora._locks import Lock, is_held
from stiefel_lora.jobs import (
    JobState,
    Queue,
    add_jobs,
    cancel_jobs,
    clear_jobs,
    make_plans,
    pause_jobs,
    release_jobs,
    retry_jobs,
)
from stiefel_lora.runs.run_lock import run_lock_path


@pytest.fixture
def queue(tmp_path) -> Queue:
    return Queue(tmp_path / "queue")


def fill(queue: Queue, config: Path, jobs: int = 3) -> list[int]:
    sweep = "seed=" + ",".join(str(seed) for seed in range(jobs))
    return [job.id for job in add_jobs(queue, make_plans([str(config)], [], [sweep]))]


def take(queue: Queue, slots=("",)):
    return queue.claim(lambda running: slots[0])


def states(queue: Queue) -> list[str]:
    return [job.state.value for job in queue.jobs()]


def test_a_job_keeps_its_settings_whatever_becomes_of_the_file(queue, config):
    plans = make_plans([str(config)], ["steps=7"])
    add_jobs(queue, plans)
    config.unlink()
    (job,) = Queue(queue.folder).jobs()
    assert job.config == plans[0].settings
    assert (job.name, job.steps, job.state) == ("cats", 7, JobState.WAITING)


def test_all_or_none_are_added(queue, config, tmp_path):
    fill(queue, config, jobs=1)
    both = [str(ready_config(tmp_path, "dogs")), str(config)]
    with pytest.raises(QueueError, match="another job of this queue uses"):
        add_jobs(queue, make_plans(both, [], []))
    assert [job.name for job in queue.jobs()] == ["cats"]


def test_an_earlier_run_is_not_written_into(queue, config, tmp_path):
    (tmp_path / "runs" / "cats").mkdir(parents=True)
    plans = make_plans([str(config)])
    with pytest.raises(QueueError, match="contains an earlier run"):
        add_jobs(queue, plans)
    names = [add_jobs(queue, plans, rename=True)[0].name for _ in range(2)]
    assert names == ["cats-2", "cats-3"]


def test_orders_to_waiting_jobs(queue, config):
    one, two, three = fill(queue, config)
    assert [job.id for job in pause_jobs(queue, [one])] == [one]
    assert [job.id for job in cancel_jobs(queue, [two])] == [two]
    assert states(queue) == ["paused", "cancelled", "waiting"]
    assert take(queue).id == three
    assert take(queue) is None
    assert [job.id for job in release_jobs(queue)] == [one]
    assert [job.id for job in retry_jobs(queue, [two])] == [two]
    assert states(queue) == ["waiting", "waiting", "running"]


def test_orders_to_all(queue, config):
    fill(queue, config)
    take(queue)
    assert len(pause_jobs(queue)) == 3
    assert [job.wish for job in queue.jobs()] == ["pause", None, None]
    assert states(queue) == ["running", "paused", "paused"]
    assert len(cancel_jobs(queue)) == 3
    assert [job.wish for job in queue.jobs()] == ["cancel", None, None]


@pytest.mark.parametrize(
    ("order", "sentence"),
    [
        (pause_jobs, "is already done"),
        (cancel_jobs, "is already done"),
        (release_jobs, "is done. Use stiefel-lora queue retry"),
        (retry_jobs, "is done. Only failed or cancelled jobs"),
    ],
)
def test_orders_to_a_job_that_is_over(queue, config, order, sentence):
    (number,) = fill(queue, config, jobs=1)
    queue.settle(take(queue), 0)
    with pytest.raises(QueueError, match=sentence):
        order(queue, [number])
    with pytest.raises(QueueError, match=f"no job 99.*Available jobs: {number}"):
        order(queue, [99])


def test_clear_forgets_what_is_over(queue, config):
    one, two, _three = fill(queue, config)
    queue.settle(take(queue), 0)
    cancel_jobs(queue, [two])
    assert [job.id for job in clear_jobs(queue)] == [one, two]
    assert states(queue) == ["waiting"]


def test_an_attempt_is_settled_once(queue, config):
    fill(queue, config, jobs=1)
    first = take(queue)
    assert queue.settle(first, 130).state is JobState.WAITING
    second = take(queue)
    assert (second.id, second.attempt) == (first.id, 2)
    # The process of the first attempt comes late.
    assert queue.settle(first, 0) is None
    assert not queue.enter(first, 1, 1.0)
    assert queue.enter(second, 1, 1.0)
    assert states(queue) == ["running"]


def test_a_job_whose_lock_is_free_is_dead(queue, config):
    fill(queue, config, jobs=1)
    job = take(queue)
    assert queue.reap_dead_jobs() == []  # no process yet: it may still come
    queue.enter(job, 1, 1.0)
    lock = Lock(run_lock_path(job.run_dir))
    assert lock.claim()
    assert queue.reap_dead_jobs() == []
    lock.release()
    (dead,) = queue.reap_dead_jobs()
    assert (dead.state, dead.deaths, dead.pid) == (JobState.WAITING, 1, None)
    assert "starting again" in dead.message


def test_it_is_given_up_after_three_deaths_without_progress(queue, config):
    fill(queue, config, jobs=1)
    deaths = [queue.settle(take(queue), -9) for _ in range(3)]
    assert [job.state.value for job in deaths] == ["waiting", "waiting", "failed"]
    assert "killed by signal 9" in deaths[0].message
    assert "3 times without a new checkpoint" in deaths[2].message
    retry_jobs(queue)
    assert queue.settle(take(queue), -9).state is JobState.WAITING


def test_a_new_checkpoint_starts_the_count_of_deaths_anew(queue, config):
    fill(queue, config, jobs=1)
    for step in (0, 0, 5, 5, 10):
        job = take(queue)
        (job.folder.checkpoints / f"step-{step}").mkdir(parents=True, exist_ok=True)
        assert queue.settle(job, -9).state is JobState.WAITING
    assert queue.job(1).message.endswith("resuming from step 10.")


def test_a_failure_has_a_reason(queue, config):
    fill(queue, config, jobs=1)
    job = take(queue)
    log = queue.log_path(job)
    log.parent.mkdir()
    log.write_text("Run folder: x\nx.json:\n  a is wrong.\n  b is wrong.\n")
    failed = queue.settle(job, 2)
    assert (failed.state, failed.exit_code) == (JobState.FAILED, 2)
    assert failed.message == "x.json: a is wrong. b is wrong."


def test_a_killed_holder_gives_its_lock_back(tmp_path):
    path = tmp_path / "x.lock"
    code = (
        "import sys, pathlib\n"
        "from stiefel_lora._locks import Lock\n"
        "lock = Lock(pathlib.Path(sys.argv[1]))\n"
        "print(lock.claim(), flush=True)\n"
        "sys.stdin.read()\n"
    )
    with python_process(code, path) as holder:
        assert holder.stdout.readline() == "True\n"
        assert is_held(path)
        assert not Lock(path).claim(0)
        kill(holder.pid)
        holder.wait()
    lock = Lock(path)
    assert lock.claim(0)
    lock.release()


def claim_all(folder: Path, claimed) -> None:
    queue = Queue(folder)
    while job := queue.claim(lambda running: ""):
        claimed.put(job.id)


def test_racing_processes_never_claim_one_job_twice(queue, config):
    numbers = fill(queue, config, jobs=40)
    spawn = multiprocessing.get_context("spawn")
    claimed = spawn.Queue()
    racers = [
        spawn.Process(target=claim_all, args=(queue.folder, claimed)) for _ in range(3)
    ]
    for racer in racers:
        racer.start()
    found = Counter(claimed.get(timeout=120) for _ in numbers)
    for racer in racers:
        racer.join()
    assert found == Counter(numbers)
    assert claimed.empty()


def test_a_file_that_is_no_database(tmp_path):
    (tmp_path / "queue.sqlite3").write_text("no database, but long enough" * 50)
    with pytest.raises(OutputError, match=r"is damaged .*not a database.*Rename"):
        Queue(tmp_path)


def test_a_queue_of_a_newer_version(queue):
    with sqlite3.connect(queue.store.path) as db:
        db.execute("PRAGMA user_version = 99")
    with pytest.raises(QueueError, match=r"newer version of stiefel-lora \(format 99"):
        Queue(queue.folder)


def test_a_full_disk_is_a_message_and_loses_nothing(queue, config, monkeypatch):
    fill(queue, config, jobs=2)
    connect = queue.store._connect

    def connect_to_full_disk():
        db = connect()
        pages = db.execute("PRAGMA page_count").fetchone()[0]
        # Room for the state of a job, but not for another one.
        db.execute(f"PRAGMA max_page_count = {pages + 2}")
        return db

    monkeypatch.setattr(queue.store, "_connect", connect_to_full_disk)
    plans = make_plans([str(config)], ["comment=" + "x" * 100_000])
    with pytest.raises(OutputError, match="is full"):
        add_jobs(queue, plans)
    assert states(queue) == ["waiting", "waiting"]
    assert take(queue).id == 1
