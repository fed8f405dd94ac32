"""Process of a job: ``python -m stiefel_lora.jobs.worker FOLDER ID ATTEMPT``.

The process acquires the lock of the run folder, trains like ``stiefel-lora train``, and
records the result. It exits if another process holds the lock or the attempt was
cancelled.
"""

from __future__ import annotations

import json
import os
import shutil
import sys
import traceback
from collections.abc import Callable
from pathlib import Path

from .._entry import BAD_INPUT, FAILURE, INTERRUPTED, outcome_of, train_file
from .._exceptions import OutputError, StiefelLoraError
from ..files.atomic import atomic_write
from ..runs.run_lock import hold_run
from .evidence import different_settings
from .job import Job
from .processes import birth
from .queue import Queue

__all__ = ["NOT_WANTED", "main", "run", "train_attempt"]

# Exit code EX_TEMPFAIL. It never becomes the result of a job: at this exit, the attempt
# has its result already, or is not the current one.
NOT_WANTED = 75


def main() -> None:
    """Run the job given on the command line and exit with the code of the training."""
    folder, number, attempt = sys.argv[1:4]
    queue = Queue(folder)
    job = queue.job(int(number))
    raise SystemExit(run(queue, job) if job.attempt == int(attempt) else NOT_WANTED)


def run(queue: Queue, job: Job) -> int:
    """Acquire the run lock, train and record the result. Return the exit code."""
    try:
        with hold_run(job.run_dir):
            return _train(queue, job)
    except StiefelLoraError as error:
        # Only the error of the lock; training records its own.
        _say(str(error))
        queue.settle(job, 2)
        return NOT_WANTED


def _train(queue: Queue, job: Job) -> int:
    try:
        began = birth(os.getpid())
        if began is None or not queue.enter(job, os.getpid(), began):
            return NOT_WANTED
        path = queue.config_path(job)
        code = train_attempt(job, path, lambda: not queue.job(job.id).wish)
        # Record before releasing the lock: a free lock without a result means a crash.
        queue.settle(job, code)
        return code
    except StiefelLoraError as error:
        # The disk of the queue is full. The result is read from the run folder later.
        _say(str(error))
        return 1


def _say(message: str) -> None:
    print(message, flush=True)


def train_attempt(job: Job, config_path: Path, wanted: Callable[[], bool]) -> int:
    """Train like ``stiefel-lora train``. Return the exit code.

    Args:
        job: job whose run folder is locked by this process.
        config_path: configuration file to write and to train.
        wanted: returns False if the job was paused or cancelled while this process was
            starting.
    """
    try:
        overrides, resume = _prepare(job, config_path)
    except StiefelLoraError as error:
        _say(str(error))
        return BAD_INPUT
    # Taking the lock of the run discarded the command to stop.
    if not wanted():
        return INTERRUPTED
    try:
        result = train_file(str(config_path), overrides, resume)
    except SystemExit as end:
        return end.code if isinstance(end.code, int) else int(end.code is not None)
    except BaseException as error:
        outcome = outcome_of(error)
        if outcome is None:
            traceback.print_exc()
            return FAILURE
        # The last message of the log becomes the message of the job.
        message, code = outcome
        print(message, file=sys.stderr, flush=True)
        return code
    return INTERRUPTED if result.interrupted else 0


def _prepare(job: Job, config_path: Path) -> tuple[list[str], str | None]:
    """Write the config file and clean up. Return overrides and the value of resume."""
    text = json.dumps(job.config, indent=2, ensure_ascii=False) + "\n"
    with atomic_write(config_path) as part:
        part.write_text(text, encoding="utf-8", newline="\n")
    overrides = []
    if job.device:
        # Only one GPU is visible to the process (``slots.environment_of``): cuda.
        device = "cuda" if job.device.isdecimal() else job.device
        overrides.append(f"device={device}")
    if job.folder.has_checkpoint:
        return overrides, str(job.run_dir)
    if job.run_dir.exists():
        _remove_remains(job)
    return overrides, None


def _remove_remains(job: Job) -> None:
    """Remove files of an attempt that was killed before its first checkpoint.

    Raises:
        OutputError: If the folder belongs to another run.
    """
    folder = job.folder
    ours = different_settings(folder, job.config) in ([], None)
    if job.attempt < 2 or not ours or any(folder.lora.glob("*")):
        raise OutputError(
            f"run_name: {job.run_dir} already exists and belongs to another run. "
            "Set another run_name or output_dir for this job, or move that folder."
        )
    shutil.rmtree(job.run_dir)


if __name__ == "__main__":
    main()
