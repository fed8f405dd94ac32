from __future__ import annotations

import pytest
from typer.testing import CliRunner

from helpers.jobs import ready_config
from stiefel_lora import _commands
from stiefel_lora._locks import Lock
from stiefel_lora.jobs import JobState, Queue


def run(*args: object):
    return CliRunner().invoke(_commands.app, [str(arg) for arg in args])


@pytest.fixture
def queue_folder(tmp_path, monkeypatch):
    """The queue that the commands take when none is named."""
    monkeypatch.setenv("STIEFEL_LORA_QUEUE", str(tmp_path / "queue"))
    return tmp_path / "queue"


def test_a_dry_run_lists_the_jobs_and_writes_nothing(config, tmp_path):
    before = sorted(tmp_path.rglob("*"))
    result = run("batch", config, "--sweep", "lora_rank=4,8", "--dry-run")
    assert result.exit_code == 0
    first, second, total, remark = result.stdout.splitlines()
    assert first.endswith(f"cats-lora_rank_4  {config}  lora_rank=4")
    assert second.endswith(f"cats-lora_rank_8  {config}  lora_rank=8")
    assert total.startswith("2 jobs. The results will be written to ")
    assert remark.startswith("Warning: 2 of them do not set checkpoint_every")
    assert sorted(tmp_path.rglob("*")) == before


def test_the_folder_is_that_of_the_command(config):
    def folder(*args: str) -> str:
        return run("batch", config, *args, "--dry-run").stdout.split("written to ")[1]

    ranks = ("--sweep", "lora_rank=4,8", "--set", "checkpoint_every=5")
    assert folder(*ranks) == folder(*ranks, "--jobs", "2")
    assert folder(*ranks) != folder("--set", "checkpoint_every=5")


@pytest.mark.parametrize(
    ("args", "message"),
    [
        (["--sweep", "lora_rank"], "does not have the form KEY=V1,V2"),
        (["--sweep", "lora_rnk=4"], "Did you mean lora_rank?"),
        (["--jobs", "0"], "--jobs: must be at least 1, but got 0."),
        (["--devices", "zero"], "is not a list of devices. Use GPU numbers"),
    ],
)
def test_bad_input_is_one_message_and_starts_nothing(config, tmp_path, args, message):
    result = run("batch", config, *args)
    assert result.exit_code == 2
    assert message in result.stderr
    assert len(result.stderr.splitlines()) == 1
    assert not (tmp_path / "runs").exists()


def test_a_broken_config_among_good_ones_is_named(config, broken, tmp_path):
    result = run("batch", tmp_path / "*.json")
    assert result.exit_code == 2
    assert result.stderr.count("\n") == 2
    assert "No job was started" in result.stderr
    assert "broken.json" in result.stderr
    assert not (tmp_path / "runs").exists()


def test_a_queue_through_its_commands(config, queue_folder):
    assert run("queue", "add", config, "--sweep", "seed=1,2,3").stdout == (
        "Added: 1 cats-seed_1\nAdded: 2 cats-seed_2\nAdded: 3 cats-seed_3\n"
    )
    assert run("queue", "pause", 1).stdout == "Paused: 1 cats-seed_1\n"
    assert run("queue", "cancel", 2).stdout == "Cancelled: 2 cats-seed_2\n"
    listed = run("queue", "list").stdout
    assert all(word in listed for word in ("paused", "cancelled", "waiting", "0/1000"))
    assert "The queue is not running" in listed
    assert run("queue", "retry", 2).stdout == "Requeued: 2 cats-seed_2\n"
    assert run("queue", "cancel", "--all").stdout.count("Cancelled: ") == 3
    assert run("queue", "clear").stdout.count("Removed: ") == 3
    assert Queue(queue_folder).jobs() == []


def test_start_beside_a_runner_starts_no_second_one(config, queue_folder):
    run("queue", "add", config)
    run("queue", "pause")
    lock = Lock(Queue(queue_folder).runner_lock_path)
    assert lock.claim()
    result = run("queue", "start")
    lock.release()
    assert "Resumed: 1 cats" in result.stdout
    assert "The queue is already running" in result.stdout
    assert Queue(queue_folder).job(1).state is JobState.WAITING


def test_start_with_nothing_to_do(config, queue_folder):
    run("queue", "add", config)
    run("queue", "cancel", 1)
    assert run("queue", "start").stdout == (
        "No jobs are waiting. Add jobs first: stiefel-lora queue add\n"
    )


def test_log(config, queue_folder):
    run("queue", "add", config)
    queue = Queue(queue_folder)
    path = queue.log_path(queue.job(1))
    path.parent.mkdir()
    path.write_text("one\ntwo\n", encoding="utf-8")
    assert run("queue", "log", 1).stdout == "one\ntwo\n"
    run("queue", "cancel", 1)
    assert run("queue", "log", 1, "--follow").stdout == "one\ntwo\n"


@pytest.mark.parametrize(
    ("args", "message"),
    [
        (
            ["list", "--queue", "nowhere"],
            "There is no queue in nowhere. Add jobs first",
        ),
        (["log", "7"], "There is no job 7"),
        (["retry", "1"], "is waiting. Only failed or cancelled jobs can be retried"),
        (["cancel"], "No jobs given. Give job IDs or --all."),
        (["cancel", "1", "--all"], "No jobs given. Give job IDs or --all."),
    ],
)
def test_orders_that_cannot_be_executed(config, queue_folder, args, message):
    run("queue", "add", config)
    result = run("queue", *args)
    assert result.exit_code == 2
    assert message in result.stderr
    assert len(result.stderr.splitlines()) == 1


def test_two_configs_of_one_output_are_one_message(config, queue_folder, tmp_path):
    dogs = ready_config(tmp_path, "dogs", run_name="cats", seed=5)
    run("queue", "add", config)
    result = run("queue", "add", dogs)
    assert result.exit_code == 2
    assert "another job of this queue uses" in result.stderr
    assert len(result.stderr.splitlines()) == 1
