"""Shares of a cluster, and what runs on a node, without Ray."""

from __future__ import annotations

import dataclasses
import json
import socket
import sys
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from helpers.jobs import ready_config
from stiefel_lora import ConfigError, __version__
from stiefel_lora._commands import app
from stiefel_lora._locks import Lock
from stiefel_lora.config import load_config
from stiefel_lora.jobs import Job, Plan, Queue, add_jobs
from stiefel_lora.jobs.cluster_share import Share, share_of
from stiefel_lora.jobs.node_job import OCCUPIED, check_node, permit, run_job
from stiefel_lora.jobs.ray_engine import find_address
from stiefel_lora.jobs.worker import NOT_WANTED
from stiefel_lora.runs.run_lock import run_lock_path


@pytest.mark.parametrize(
    ("nodes", "device", "jobs", "cores", "share"),
    [
        ([{"CPU": 8}], "auto", None, None, Share(8, 0, 1)),
        ([{"CPU": 8}], "cpu", 2, None, Share(4, 0, 2)),
        ([{"CPU": 8}], "cpu", 3, None, Share(2, 0, 3)),
        ([{"CPU": 8}] * 2, "cpu", None, None, Share(8, 0, 2)),
        ([{"CPU": 8}] * 2, "cpu", 3, None, Share(4, 0, 3)),
        ([{"CPU": 2}], "cpu", 5, None, Share(1, 0, 2)),
        ([{"CPU": 8}], "cpu", None, 3, Share(3, 0, 2)),
        # A head without GPUs only trains if no node has one.
        ([{"CPU": 4}, {"CPU": 32, "GPU": 4}], "auto", None, None, Share(8, 1, 4)),
        ([{"CPU": 4}, {"CPU": 32, "GPU": 4}], "cuda", 2, None, Share(8, 1, 2)),
        ([{"CPU": 32, "GPU": 4}], "cpu", None, None, Share(32, 0, 1)),
        ([{"CPU": 0}, {"CPU": 2.0}], "cpu", None, None, Share(2, 0, 1)),
    ],
)
def test_share(
    nodes: list[Any], device: str, jobs: Any, cores: Any, share: Share
) -> None:
    assert share_of(nodes, [device], jobs, cores) == share


@pytest.mark.parametrize(
    ("nodes", "device", "cores", "message"),
    [
        ([{"CPU": 8}], "cuda", None, "device='cuda': no node of the cluster has a GPU"),
        ([{"CPU": 8}], "cpu", 9, "no node of the cluster has 9 cores for a training"),
        (
            [{"CPU": 0}],
            "cpu",
            None,
            "no node of the cluster has 1 core .* largest .* 0",
        ),
    ],
)
def test_shares_that_are_refused(
    nodes: list[Any], device: str, cores: Any, message: str
) -> None:
    with pytest.raises(ConfigError, match=message):
        share_of(nodes, [device], None, cores)


def batch(*arguments: object) -> tuple[int, str]:
    done = CliRunner().invoke(app, ["batch", *map(str, arguments)])
    return done.exit_code, " ".join(done.output.split())


def free_port() -> int:
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        return one.getsockname()[1]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--address", "auto"], "--address: requires --engine ray"),
        (["--cores", "2"], "--cores: requires --engine ray"),
        (["--engine", "ray", "--devices", "0"], "--devices: not possible with"),
        (
            ["--engine", "ray", "--address", "ray://a:1"],
            "'ray://a:1' is not an address",
        ),
        (
            ["--engine", "ray", "--address", "a:99999"],
            "no Ray cluster answers at a:99999",
        ),
    ],
)
def test_options_that_are_refused(
    options: list[str], message: str, tmp_path: Path
) -> None:
    pytest.importorskip("ray", reason="ray is not installed")
    code, output = batch(ready_config(tmp_path), *options)
    assert code == 2
    assert message in output
    assert not (tmp_path / "runs").exists()


def test_an_address_where_nothing_answers(tmp_path: Path) -> None:
    pytest.importorskip("ray", reason="ray is not installed")
    address = f"127.0.0.1:{free_port()}"
    code, output = batch(
        ready_config(tmp_path), "--engine", "ray", "--address", address
    )
    assert code == 2
    assert f"--address: no Ray cluster answers at {address} " in output
    assert not (tmp_path / "runs").exists()


def test_ray_that_is_not_installed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "path", [])
    for name in [name for name in sys.modules if name.partition(".")[0] == "ray"]:
        monkeypatch.delitem(sys.modules, name)
    with pytest.raises(ConfigError, match=r"ray is not installed\. Install it with"):
        find_address("auto")


def test_the_address_of_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("ray", reason="ray is not installed")
    assert find_address(None) == "local"
    monkeypatch.setenv("RAY_ADDRESS", "auto")
    assert find_address(None) == "auto"
    assert find_address("local") == "local"


@pytest.fixture
def claimed(tmp_path: Path) -> tuple[Queue, Job]:
    queue = Queue(tmp_path / "queue")
    config = load_config(ready_config(tmp_path))
    add_jobs(queue, [Plan(config, "cats.json", {})])
    job = queue.claim(lambda _: "ray")
    assert job is not None
    return queue, dataclasses.replace(job, device="")


def on_node(queue: Queue, job: Job) -> tuple[int, str]:
    """Exit code and log of a job that was sent as JSON."""
    values = json.loads(json.dumps(dataclasses.asdict(job), default=str))
    places = (queue.folder, queue.config_path(job), queue.log_path(job))
    code = run_job(values, *map(str, places))
    return code, queue.log_path(job).read_text(encoding="utf-8")


def test_a_job_on_a_node_has_its_error_in_its_log(claimed: tuple[Queue, Job]) -> None:
    queue, job = claimed
    permit(queue.folder, job)
    code, log = on_node(queue, job)
    assert code == 2
    assert log.splitlines()[-1].startswith("The base model folder ")


def test_an_earlier_attempt_does_not_run(claimed: tuple[Queue, Job]) -> None:
    queue, job = claimed
    permit(queue.folder, dataclasses.replace(job, attempt=2))
    assert on_node(queue, job)[0] == NOT_WANTED
    assert not job.run_dir.exists()


def test_a_run_folder_of_another_process_is_left_alone(
    claimed: tuple[Queue, Job],
) -> None:
    queue, job = claimed
    permit(queue.folder, job)
    lock = Lock(run_lock_path(job.run_dir))
    assert lock.claim()
    try:
        code, log = on_node(queue, job)
    finally:
        lock.release()
    assert code == OCCUPIED
    assert f"Another process trains in {job.run_dir}." in log


def test_a_node_is_checked(tmp_path: Path, claimed: tuple[Queue, Job]) -> None:
    _, job = claimed
    path = tmp_path / "cluster.lock"
    locks = {str(tmp_path): str(path)}
    assert "is not the folder of this machine" in check_node([], locks, __version__)
    lock = Lock(path)
    assert lock.claim()
    try:
        assert check_node([job.config], locks, __version__) == ""
        problem = check_node([job.config], locks, "0.0.9")
        assert f"has stiefel-lora {__version__}, and this machine 0.0.9" in problem
        other = {**job.config, "base_model_name": str(tmp_path / "none")}
        problem = check_node([other], locks, __version__)
        assert problem.startswith(f"On the node {socket.gethostname()}: base_model")
    finally:
        lock.release()
