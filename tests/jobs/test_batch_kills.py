"""What takes minutes: kills at random moments, and two runners on one queue."""

from __future__ import annotations

import os
import random
import subprocess
import sys
from pathlib import Path

import pytest

from helpers.jobs import MODULES, batch_command, kill, kinds, tiny_file, until
from stiefel_lora.jobs import JobState, Queue

ROOT = Path(__file__).parents[2]


@pytest.mark.slow
@pytest.mark.timeout(3600)
def test_a_batch_with_a_broken_config_and_two_kills_ends_complete(tmp_path):
    path = os.pathsep.join([MODULES, str(ROOT / "tests")])
    done = subprocess.run(
        [sys.executable, "-m", "helpers.batch_kills", str(tmp_path / "kills")],
        env={**os.environ, "PYTHONPATH": path, "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        check=False,
    )
    print(done.stdout)
    assert done.returncode == 0, done.stdout + done.stderr[-3000:]


@pytest.mark.slow
@pytest.mark.timeout(3600)
def test_two_runners_run_no_job_twice_and_the_second_takes_over(tiny_sdxl, tmp_path):
    configs = [
        tiny_file(tiny_sdxl, tmp_path, f"job_{number}", seed=number, steps=4)
        for number in range(4)
    ]
    folder = tmp_path / "batch"
    command = (*configs, "--folder", folder, "--jobs", 2)
    runners = [batch_command(*command), batch_command(*command)]
    queue = until(lambda: folder.is_dir() and Queue(folder), "a queue")
    # Two jobs run side by side and can end between two polls.
    until(lambda: queue.jobs(JobState.DONE), "the first job")
    doomed = random.SystemRandom().choice(runners)
    kill(doomed.pid)
    doomed.communicate()
    (other,) = (runner for runner in runners if runner is not doomed)
    output, _ = other.communicate()
    print(output)
    assert other.returncode == 0
    for job in queue.jobs():
        assert kinds(job, "start", "resume", "end") == ["start", "end"]
        assert (job.attempt, job.state) == (1, JobState.DONE)


@pytest.mark.slow
@pytest.mark.timeout(3600)
def test_after_a_restart_of_the_machine_the_queue_goes_on(tiny_sdxl, tmp_path):
    """A restart as far as one can have it here: every process is gone."""
    configs = [
        tiny_file(tiny_sdxl, tmp_path, f"job_{number}", seed=number, steps=8)
        for number in range(2)
    ]
    command = ("queue", "--queue", tmp_path / "queue")

    def order(verb: str, *arguments: object) -> str:
        done = subprocess.run(
            [sys.executable, "-m", "stiefel_lora", command[0], verb]
            + [str(argument) for argument in (*arguments, *command[1:])],
            env={**os.environ, "PYTHONPATH": MODULES, "OMP_NUM_THREADS": "1"},
            capture_output=True,
            text=True,
            check=True,
        )
        return done.stdout

    order("add", *configs)
    assert "is running in the background" in order("start")
    queue = Queue(tmp_path / "queue")
    first = queue.jobs()[0]
    until(lambda: kinds(first, "checkpoint"), "a checkpoint")
    runner = _runner_of(queue)
    kill(runner)
    kill(queue.job(first.id).pid)
    assert "The queue is not running" in order("list")
    order("start")
    until(lambda: len(queue.jobs(JobState.DONE)) == 2, "both jobs")
    assert kinds(first, "start", "resume", "end") == ["start", "resume", "end"]


def _runner_of(queue: Queue) -> int:
    import psutil

    (found,) = (
        process.pid
        for process in psutil.process_iter(["cmdline"])
        if process.info["cmdline"]
        and "stiefel_lora.jobs.background" in process.info["cmdline"]
        and str(queue.folder) in process.info["cmdline"]
    )
    return found
