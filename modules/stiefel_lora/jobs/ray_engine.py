"""Engine that runs each job as a Ray task, on this machine or on a cluster."""

from __future__ import annotations

import contextlib
import dataclasses
import importlib.util
import json
import os
import re
import socket
import subprocess
import threading
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import IO

from .._exceptions import ConfigError, TrainingError, reason_of
from .._install import install_command
from .._locks import is_held
from .._version import __version__
from ..runs.run_lock import run_lock_path
from .cluster_share import Share, uses_gpu
from .engine import Attempt
from .job import Job
from .node_job import OCCUPIED, permit
from .plan import Plan
from .processes import start_detached
from .queue import Queue
from .ray_driver import DIED

__all__ = ["RayEngine", "find_address"]

_ADDRESS = re.compile(r"(\[[0-9a-fA-F:.]+\]|[^:/\s]+):(\d{1,5})")
_ANSWER_SECONDS = 5.0
_END_SECONDS = 20.0


def find_address(given: str | None) -> str:
    """Return the address of the cluster, after a check that it answers.

    Args:
        given: ``host:port``, ``auto`` for the cluster of this machine, or ``local`` to
            start Ray on this machine. None for ``RAY_ADDRESS``, or ``local`` if it is
            not set.

    Raises:
        ConfigError: If Ray is not installed, or nothing answers at the address.
    """
    if importlib.util.find_spec("ray") is None:
        raise ConfigError(
            "--engine ray: the package ray is not installed. Install it with: "
            f"{install_command('cluster')}"
        )
    address = given or os.environ.get("RAY_ADDRESS") or "local"
    if address in ("auto", "local"):
        return address
    match = _ADDRESS.fullmatch(address)
    if match is None:
        raise ConfigError(
            f"--address: {address!r} is not an address of a Ray cluster. Use "
            "host:port, auto or local."
        )
    try:
        place = match[1].strip("[]"), int(match[2])
        socket.create_connection(place, _ANSWER_SECONDS).close()
    # OverflowError: the port is above 65535.
    except (OSError, OverflowError) as error:
        raise ConfigError(
            f"--address: no Ray cluster answers at {address} ({reason_of(error)}). "
            "Start one with ray start --head, or correct the address."
        ) from error
    return address


class RayEngine:
    """Connection to Ray, as a context manager.

    Args:
        folder: folder of the batch, on storage that all nodes share.
        plans: settings of the jobs.
        address: see :func:`find_address`.
        jobs: number of jobs at a time, or None for as many as possible.
        cores: CPU cores of each job, or None for an even share.

    Raises:
        ConfigError: If a node of the cluster cannot run the jobs.
    """

    def __init__(
        self,
        folder: Path,
        plans: Sequence[Plan],
        address: str,
        jobs: int | None = None,
        cores: int | None = None,
    ) -> None:
        self.folder = folder.absolute()
        self.log = self.folder / "ray.log"
        folders = {plan.config.output_dir for plan in plans} | {self.folder}
        self._request = {
            "address": address,
            "jobs": jobs,
            "cores": cores,
            "version": __version__,
            "configs": [plan.settings for plan in plans],
            "locks": {
                str(path): str(path / ".locks" / "cluster.lock")
                for path in sorted(folders)
            },
        }
        self._codes: dict[tuple[int, int], int] = {}
        self._lost = False

    def __enter__(self) -> RayEngine:
        self._driver: subprocess.Popen[bytes] = start_detached(
            "stiefel_lora.jobs.ray_driver", [], self.log, piped=True
        )
        try:
            self._ask(self._request)
            answer = self._answer()
        except BaseException:
            # It ends by itself, with what it has started.
            _pipe(self._driver.stdin).close()
            raise
        self.share = Share(answer["cores"], answer["gpus"], answer["slots"])
        self.nodes: int = answer["nodes"]
        threading.Thread(target=self._listen, daemon=True).start()
        return self

    def __exit__(self, *exc: object) -> None:
        # It ends when its trainings have ended, which continue as on this machine.
        _pipe(self._driver.stdin).close()
        if exc == (None, None, None):
            with contextlib.suppress(subprocess.TimeoutExpired):
                self._driver.wait(_END_SECONDS)

    def free(self, running: Iterable[Job]) -> str | None:
        """Return "ray" if another job fits, or None."""
        return "ray" if len(list(running)) < self.share.slots else None

    def place(self, job: Job) -> str:
        """Describe where a job runs, as the end of "started"."""
        return f" on Ray with {self.share.text(job.config['device'])}"

    def start(self, queue: Queue, job: Job) -> Attempt:
        """Start a job that was claimed.

        Raises:
            TrainingError: If the connection to Ray is lost.
        """
        permit(queue.folder, job)
        device = job.config["device"]
        gpus = self.share.gpus if uses_gpu(device) else 0
        # Ray shows a job only its own GPU, which is then number 0.
        shown = "cuda" if gpus and device.startswith("cuda") else ""
        values = dataclasses.asdict(dataclasses.replace(job, device=shown))
        self._ask(
            {
                "job": {**values, "run_dir": str(job.run_dir), "name": job.name},
                "gpus": gpus,
                "folder": str(queue.folder),
                "config_path": str(queue.config_path(job)),
                "log_path": str(queue.log_path(job)),
            }
        )
        return _RayAttempt(self, job)

    def code_of(self, job: Job) -> int | None:
        """Return the exit code of a job, or None if it is running.

        Raises:
            TrainingError: If the connection to Ray is lost.
        """
        code = self._codes.get((job.id, job.attempt))
        if code is None and self._lost:
            raise self._connection_lost()
        return code

    def _ask(self, values: object) -> None:
        pipe = _pipe(self._driver.stdin)
        try:
            pipe.write(json.dumps(values).encode() + b"\n")
            pipe.flush()
        except OSError as error:
            raise self._connection_lost() from error

    def _answer(self) -> dict[str, int]:
        line = _pipe(self._driver.stdout).readline()
        if not line:
            raise self._connection_lost()
        answer = json.loads(line)
        if "error" in answer:
            raise ConfigError(answer["error"])
        return answer

    def _listen(self) -> None:
        for line in _pipe(self._driver.stdout):
            answer = json.loads(line)
            if "slots" in answer:
                self.share = dataclasses.replace(self.share, slots=answer["slots"])
            else:
                number, attempt = answer["ended"]
                self._codes[number, attempt] = answer["code"]
        self._lost = True

    def _connection_lost(self) -> TrainingError:
        return TrainingError(
            f"The connection to Ray was lost, see {self.log}. Run the same command "
            "again to resume: jobs that still run are not started twice."
        )


class _RayAttempt:
    """Started job of a :class:`RayEngine`."""

    def __init__(self, engine: RayEngine, job: Job) -> None:
        self._engine, self._job = engine, job

    def poll(self) -> int | None:
        """Return the exit code, or None if the job is running."""
        code = self._engine.code_of(self._job)
        if code != OCCUPIED:
            return code
        # The end of the other process is seen in the run folder.
        return None if is_held(run_lock_path(self._job.run_dir)) else DIED


def _pipe(pipe: IO[bytes] | None) -> IO[bytes]:
    assert pipe is not None
    return pipe
