"""Batches on real Ray: two workers on this machine, and two nodes."""

from __future__ import annotations

import os
import re
import signal
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from safetensors.torch import load_file

from helpers.jobs import (
    batch_command,
    forked_batch,
    kill,
    kinds,
    pid_of,
    run_batch_command,
    tiny_file,
    until,
)
from helpers.runs import assert_same_tensors, make_images
from stiefel_lora.config import parse_config
from stiefel_lora.jobs import Job, Queue
from stiefel_lora.jobs.evidence import newest_step
from stiefel_lora.training import read_events, train

pytest.importorskip("ray", reason="ray is not installed")
from ray.cluster_utils import Cluster

pytestmark = pytest.mark.slow
STEPS = 40


def configs(model: Path, root: Path, count: int, **changes: Any) -> list[Path]:
    changes = {"steps": STEPS, **changes}
    return [
        tiny_file(model, root, f"job_{number}", seed=number, **changes)
        for number in range(count)
    ]


def queue_in(folder: Path) -> Queue:
    queue = until(
        lambda: (folder / "queue.sqlite3").is_file() and Queue(folder), "a queue"
    )
    until(queue.jobs, "jobs")
    return queue


def worker_of(queue: Queue, job: Job) -> int:
    """Number of the Ray worker of the last attempt, from its log."""
    log = queue.log_path(job)

    def found() -> str:
        text = log.read_text(encoding="utf-8") if log.is_file() else ""
        numbers = re.findall(r"^Process (\d+) on the node ", text, re.MULTILINE)
        return numbers[-1] if numbers else ""

    return int(until(found, f"a worker of {job.name}"))


def trained(job: Job) -> list[int]:
    """Steps of the file of events, in order."""
    events = read_events(job.folder.events_file)
    return [event["step"] for event in events if event["type"] == "train"]


def saved(job: Job, step: int) -> bool:
    """Look for a checkpoint of this step or a later one."""
    return newest_step(job.folder) >= step


def lora_of(job: Job) -> Path:
    (file,) = (path for path in job.folder.lora.iterdir() if path.stem == job.name)
    return file


@pytest.fixture
def cluster(monkeypatch: pytest.MonkeyPatch) -> Iterator[Cluster]:
    """Two nodes of one core; a lost head is noticed after 15 s instead of a minute."""
    monkeypatch.setenv("RAY_USAGE_STATS_ENABLED", "0")
    monkeypatch.setenv("RAY_gcs_rpc_server_reconnect_timeout_s", "15")
    head = {"num_cpus": 1, "include_dashboard": False}
    found = Cluster(initialize_head=True, head_node_args=head)
    yield found
    found.shutdown()


def test_a_batch_begun_here_ends_on_two_workers_of_which_one_is_killed(
    tiny_sdxl: Path, tmp_path: Path
) -> None:
    files = configs(tiny_sdxl, tmp_path, 3)
    folder = tmp_path / "out"
    arguments = (*files, "--folder", folder)
    begun = forked_batch(tmp_path / "begun.txt", *arguments)
    queue = queue_in(folder)
    _, second, _ = queue.jobs()
    local = pid_of(queue, second.id)
    until(lambda: saved(second, 2), "a checkpoint of the second job")
    begun.kill()
    begun.join()
    kill(local)

    on_ray = batch_command(*arguments, "--engine", "ray", "--jobs", "2")
    until(lambda: queue.job(second.id).attempt == 2, "its second attempt")
    until(lambda: "resume" in kinds(second) and saved(second, 12), "a resumed job")
    kill(worker_of(queue, second))
    output, _ = on_ray.communicate()
    assert on_ray.returncode == 0, output

    jobs = queue.jobs()
    assert [job.attempt for job in jobs] == [1, 3, 1], output
    assert [kinds(job, "start", "end") for job in jobs] == [["start", "end"]] * 3
    assert kinds(jobs[0], "resume") == []
    assert kinds(jobs[1], "resume") == ["resume"] * 2
    assert "started on Ray with 1 CPU core, attempt 2" in output
    assert "The process was killed (out of memory, or by the system)" in output

    alone = parse_config({**jobs[1].config, "output_dir": str(tmp_path / "alone")})
    (kohya, *_) = train(alone).lora_files
    assert_same_tensors(load_file(kohya), load_file(lora_of(jobs[1])))

    code, again = run_batch_command(*arguments, "--engine", "ray")
    assert code == 0, again
    assert [job.attempt for job in queue.jobs()] == [1, 3, 1], again


def test_ctrl_c_saves_the_jobs_of_both_nodes(
    tiny_sdxl: Path, tmp_path: Path, cluster: Cluster
) -> None:
    cluster.add_node(num_cpus=1)
    cluster.wait_for_nodes()
    files = configs(tiny_sdxl, tmp_path, 2, steps=5000, checkpoint_every=0)
    folder = tmp_path / "out"
    arguments = (*files, "--folder", folder, "--engine", "ray")
    batch = batch_command(*arguments, "--address", cluster.address)
    queue = queue_in(folder)
    jobs = queue.jobs()
    until(lambda: all(map(trained, jobs)), "steps of both")
    batch.send_signal(signal.SIGINT)
    output, _ = batch.communicate()
    assert batch.returncode == 130, output
    assert "2 nodes, 2 jobs at a time" in output
    assert "Run the same command again to resume." in output
    for job in queue.jobs():
        assert saved(job, trained(job)[-1])
        assert job.message == "Stopped and saved."


def test_a_killed_head_loses_nothing(
    tiny_sdxl: Path, tmp_path: Path, cluster: Cluster
) -> None:
    cluster.add_node(num_cpus=1)
    cluster.wait_for_nodes()
    files = configs(tiny_sdxl, tmp_path, 3)
    folder = tmp_path / "out"
    arguments = (*files, "--folder", folder)
    batch = batch_command(*arguments, "--engine", "ray", "--address", cluster.address)
    queue = queue_in(folder)
    first, second, _ = queue.jobs()
    both = (first, second)
    until(lambda: all(saved(job, 4) for job in both), "checkpoints of both nodes")
    assert batch.poll() is None
    for name in ("gcs_server", "raylet"):
        for process in cluster.head_node.all_processes[name]:
            kill(process.process.pid)
    output, _ = batch.communicate()
    assert batch.returncode == 1, output
    assert "The connection to Ray was lost" in output

    ended = forked_batch(tmp_path / "ended.txt", *arguments)
    ended.join()
    text = (tmp_path / "ended.txt").read_text(encoding="utf-8")
    assert ended.exitcode == 0, text
    jobs = queue.jobs()
    for job in jobs:
        assert kinds(job, "start", "end") == ["start", "end"]
        # Trained once, or again from a checkpoint (every second step) after a kill.
        assert len(trained(job)) <= STEPS + len(kinds(job, "resume")) * 2
        assert sorted(set(trained(job))) == [*range(1, STEPS + 1)]
    alone = parse_config({**jobs[1].config, "output_dir": str(tmp_path / "alone")})
    (kohya, *_) = train(alone).lora_files
    assert_same_tensors(load_file(kohya), load_file(lora_of(jobs[1])))


def test_a_node_without_the_images_is_named_before_anything_starts(
    tiny_sdxl: Path,
    tmp_path: Path,
    cluster: Cluster,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The link leads to another folder on each node, as without shared storage."""
    make_images(tmp_path / "here" / "own", count=1)
    (tmp_path / "there").mkdir()
    monkeypatch.chdir(tmp_path / "there")
    cluster.add_node(num_cpus=1)
    cluster.wait_for_nodes()
    monkeypatch.chdir(tmp_path / "here")
    (file,) = configs(tiny_sdxl, tmp_path, 1, concepts="/proc/self/cwd/own")
    arguments = (file, "--folder", tmp_path / "out", "--engine", "ray")
    code, output = run_batch_command(*arguments, "--address", cluster.address)
    assert code == 2, output
    line = output.strip().splitlines()[-1]
    assert line.startswith(f"On the node {os.uname().nodename}: concepts"), output
    assert "/proc/self/cwd/own does not exist" in line
    assert not (tmp_path / "out" / "queue.sqlite3").exists()


# Other tests start clusters, which it would find.
@pytest.mark.alone
def test_auto_without_a_cluster(tiny_sdxl: Path, tmp_path: Path) -> None:
    (file,) = configs(tiny_sdxl, tmp_path, 1)
    found = subprocess.run(["pgrep", "-x", "gcs_server"], capture_output=True)
    assert found.returncode == 1, "another test left a cluster"
    arguments = (file, "--folder", tmp_path / "out", "--engine", "ray")
    code, output = run_batch_command(*arguments, "--address", "auto")
    assert code == 2, output
    assert "--address: Ray at auto cannot be used" in output
