"""Functions that run on a node of a cluster: the check of a node, and a training.

The node reads and writes the run folder and the folder of the batch on shared storage.
Only the machine of the batch uses the database of the queue.
"""

from __future__ import annotations

import contextlib
import os
import socket
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from .._entry import BAD_INPUT
from .._exceptions import StiefelLoraError
from .._locks import is_held
from .._text import read_text
from .._version import __version__
from ..config import check_paths, parse_config
from ..files.atomic import atomic_write
from ..runs.run_lock import hold_run, run_lock_path
from .evidence import is_finished
from .job import Job, job_from
from .worker import NOT_WANTED, train_attempt

__all__ = ["OCCUPIED", "check_node", "permit", "run_job"]

OCCUPIED = 76
"""Exit code if another process trains in the run folder, such as an attempt on a node
that was given up although it still runs."""


def check_node(
    configs: Sequence[Mapping[str, Any]], locks: Mapping[str, str], version: str
) -> str:
    """Return why trainings cannot run on this node, or "".

    Args:
        configs: settings of the trainings.
        locks: for each folder that must be shared, a file in it whose lock is held on
            the machine of the batch.
        version: version of this package on that machine.
    """
    node = socket.gethostname()
    if version != __version__:
        return (
            f"The node {node} has stiefel-lora {__version__}, and this machine "
            f"{version}. Install the same version on all nodes."
        )
    for folder, lock in locks.items():
        if not is_held(Path(lock)):
            return (
                f"output_dir: {folder} on the node {node} is not the folder of this "
                "machine, or its locks are not shared. Use a folder on shared storage "
                "with locks, such as NFS 4."
            )
    for config in configs:
        try:
            check_paths(parse_config(config))
        except StiefelLoraError as error:
            return f"On the node {node}: {error}"
    return ""


def _attempt_file(folder: Path, number: int) -> Path:
    return folder / "attempts" / str(number)


def permit(folder: Path, job: Job) -> None:
    """Permit only this attempt of a job to run.

    A cluster may start an earlier attempt that waited for resources, after its batch
    has ended.
    """
    path = _attempt_file(folder, job.id)
    path.parent.mkdir(parents=True, exist_ok=True)
    with atomic_write(path) as part:
        part.write_text(str(job.attempt), encoding="utf-8")


def run_job(
    values: Mapping[str, Any], folder: str, config_path: str, log_path: str
) -> int:
    """Train a job, with output to its log. Return the exit code.

    Args:
        values: fields of the job, see :func:`job_from`.
        folder: folder of the batch.
        config_path: configuration file to write and to train.
        log_path: log of the job.
    """
    job = job_from(values)
    with _output_to(Path(log_path)):
        print(f"Process {os.getpid()} on the node {socket.gethostname()}.", flush=True)
        try:
            # Nodes that joined later were not checked with the others.
            check_paths(parse_config(job.config))
            if is_held(run_lock_path(job.run_dir)):
                print(f"Another process trains in {job.run_dir}.", flush=True)
                return OCCUPIED
            with hold_run(job.run_dir):
                return _train(job, Path(folder), Path(config_path))
        except StiefelLoraError as error:
            print(error, flush=True)
            return BAD_INPUT


def _train(job: Job, folder: Path, config_path: Path) -> int:
    if read_text(_attempt_file(folder, job.id)) != str(job.attempt):
        return NOT_WANTED
    # By an earlier attempt that outlived the head of its cluster.
    if is_finished(job.folder, job.steps):
        return 0
    return train_attempt(job, config_path, lambda: True)


@contextlib.contextmanager
def _output_to(log: Path) -> Iterator[None]:
    """Append standard output and errors to a file, also those of libraries in C."""
    log.parent.mkdir(parents=True, exist_ok=True)
    kept = [os.dup(1), os.dup(2)]
    with (
        log.open("a", encoding="utf-8", buffering=1) as file,
        contextlib.redirect_stdout(file),
        contextlib.redirect_stderr(file),
    ):
        os.dup2(file.fileno(), 1)
        os.dup2(file.fileno(), 2)
        try:
            yield
        finally:
            for number, copy in enumerate(kept, 1):
                os.dup2(copy, number)
                os.close(copy)
