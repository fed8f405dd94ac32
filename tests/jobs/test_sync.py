"""What a batch makes of jobs and run folders that are there already."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from helpers.jobs import ready_config
from stiefel_lora import QueueError
from stiefel_lora.jobs import (
    Job,
    JobState,
    Plan,
    Queue,
    adding,
    make_plans,
    sync_jobs,
)
from stiefel_lora.jobs.evidence import different_settings
from stiefel_lora.training import RunFolder


@pytest.fixture
def queue(tmp_path) -> Queue:
    return Queue(tmp_path / "queue")


def leave_run(plan: Plan, *, step: int, **changes: Any) -> Path:
    """What a training of ``plan`` leaves, or one with other settings."""
    run_dir = plan.config.run_dir
    run_dir.mkdir(parents=True)
    settings = {**plan.settings, **changes}
    (run_dir / "config.json").write_text(json.dumps(settings), encoding="utf-8")
    end = {"type": "end", "step": step, "values": {"lora_files": []}}
    (run_dir / "events.jsonl").write_text(json.dumps(end) + "\n", encoding="utf-8")
    return run_dir


def test_what_another_command_finished_is_done(queue, config):
    (plan,) = make_plans([str(config)], ["steps=5"])
    leave_run(plan, step=5, comment="changed", device="cpu")
    (job,) = sync_jobs(queue, [plan])
    assert job.state is JobState.DONE


def test_a_run_with_other_settings_is_in_the_way(queue, config):
    (plan,) = make_plans([str(config)], ["steps=5"])
    leave_run(plan, step=5, lora_rank=3)
    with pytest.raises(QueueError, match="was trained with other values of lora_rank"):
        sync_jobs(queue, [plan])
    assert queue.jobs() == []


def test_an_unfinished_run_of_someone_else_is_in_the_way(queue, config):
    (plan,) = make_plans([str(config)], ["steps=5"])
    leave_run(plan, step=4)
    with pytest.raises(
        QueueError, match="unfinished run that was not started by this batch"
    ):
        sync_jobs(queue, [plan])


def test_settings_that_an_older_version_did_not_have_are_no_difference(config):
    (plan,) = make_plans([str(config)])
    run_dir = leave_run(plan, step=5)
    older = json.loads((run_dir / "config.json").read_text(encoding="utf-8"))
    del older["keep_checkpoints"], older["concepts"][0]["repeats"]
    del older["optimizer"]["momentum"]
    (run_dir / "config.json").write_text(json.dumps(older), encoding="utf-8")
    folder = RunFolder(run_dir)
    assert different_settings(folder, plan.settings) == []
    assert different_settings(folder, older) == []
    assert different_settings(folder, {**older, "seed": 1}) == ["seed"]


def test_the_states_after_the_same_command_again(queue, config):
    plans = make_plans([str(config)], [], ["seed=1,2,3,4"])
    jobs = sync_jobs(queue, plans)
    for code in (0, 2, 0):
        queue.settle(queue.claim(lambda running: ""), code)
    leave_run(plans[0], step=1000)
    again = sync_jobs(queue, plans)
    # Done; failed; done, but its folder is gone; never started.
    found = [job.state.value for job in again]
    assert found == ["done", "waiting", "waiting", "waiting"]
    assert [job.id for job in again] == [job.id for job in jobs]


def test_a_mended_config_is_taken_up(queue, config, tmp_path):
    sync_jobs(queue, make_plans([str(config)]))
    queue.settle(queue.claim(lambda running: ""), 2)
    ready_config(tmp_path, lora_rank=3)
    (job,) = sync_jobs(queue, make_plans([str(config)]))
    assert (job.config["lora_rank"], job.state) == (3, JobState.WAITING)


def test_jobs_that_are_not_planned_any_more(queue, config):
    sync_jobs(queue, make_plans([str(config)], [], ["seed=1,2"]))
    three = make_plans([str(config)], [], ["seed=2,3"])
    assert [job.config["seed"] for job in sync_jobs(queue, three)] == [2, 3]
    running = queue.claim(lambda running: "")
    with pytest.raises(QueueError, match=f"{running.name} is still running"):
        sync_jobs(queue, make_plans([str(config)], [], ["seed=3,4"]))


@pytest.mark.parametrize("begun", [False, True])
def test_the_same_batch_started_twice_at_one_moment(queue, config, monkeypatch, begun):
    """The other process adds the jobs after this one has read the queue."""
    plans = make_plans([str(config)], [], ["seed=1,2"])
    look = adding._state_on_disk

    def other_process_first(plan: Plan) -> JobState:
        monkeypatch.setattr(adding, "_state_on_disk", look)
        sync_jobs(queue, plans)
        if begun:
            claimed = queue.claim(lambda running: "")
            leave_run(plans[0], step=1)
            assert claimed.run_dir == plans[0].config.run_dir
        return look(plan)

    monkeypatch.setattr(adding, "_state_on_disk", other_process_first)
    jobs = sync_jobs(queue, plans)
    running = JobState.RUNNING if begun else JobState.WAITING
    assert [job.state for job in jobs] == [running, JobState.WAITING]


def test_a_job_that_ended_meanwhile_stays_done(queue, config, monkeypatch):
    (plan,) = make_plans([str(config)])
    sync_jobs(queue, [plan])
    decide = adding._goes_again

    def ends_first(job: Job, plan: Plan) -> bool:
        again = decide(job, plan)
        queue.settle(queue.claim(lambda running: ""), 0)
        return again

    monkeypatch.setattr(adding, "_goes_again", ends_first)
    (job,) = sync_jobs(queue, [plan])
    assert job.state is JobState.DONE
