"""The process of one job: ``python -m stiefel_lora.jobs.worker FOLDER ID ATTEMPT``.

It takes the lock of the run's folder, which voids orders to earlier attempts, does what
``stiefel-lora train`` does, and enters how that ended. A lock that is held, or an
attempt that is no longer wanted, ends it.
"""

from __future__ import annotations

import json
import os
import shutil
import sys
import traceback

from .._entry import BAD_INPUT, FAILURE, INTERRUPTED, outcome_of, train_file
from .._exceptions import OutputError, StiefelLoraError
from ..files.atomic import atomic_write
from ..runs.run_lock import hold_run
from .evidence import different_settings
from .job import Job
from .processes import birth
from .queue import Queue

__all__ = ["main", "run"]

NOT_WANTED = 75


def main() -> None:
    """Run the job named on the command line and exit with the training's code."""
    folder, number, attempt = sys.argv[1:4]
    queue = Queue(folder)
    job = queue.job(int(number))
    raise SystemExit(run(queue, job) if job.attempt == int(attempt) else NOT_WANTED)


def run(queue: Queue, job: Job) -> int:
    """Hold the run's lock, train, enter the end; returns the exit code."""
    try:
        with hold_run(job.run_dir):
            return _train(queue, job)
    except StiefelLoraError as error:
        # That of the lock: training enters its own.
        _say(str(error))
        queue.settle(job, 2)
        return NOT_WANTED


def _train(queue: Queue, job: Job) -> int:
    try:
        began = birth(os.getpid())
        if began is None or not queue.enter(job, os.getpid(), began):
            return NOT_WANTED
        code = _code_of(queue, job)
        # Before the lock is free: free and unsettled means that the process died.
        queue.settle(job, code)
        return code
    except StiefelLoraError as error:
        # The queue's disk is full. What the run's folder tells is found later.
        _say(str(error))
        return 1


def _say(sentence: str) -> None:
    print(sentence, flush=True)


def _code_of(queue: Queue, job: Job) -> int:
    """Train as ``stiefel-lora train`` does; returns its exit code."""
    try:
        overrides, resume = _prepare(queue, job)
    except StiefelLoraError as error:
        _say(str(error))
        return BAD_INPUT
    if queue.job(job.id).wish:
        return INTERRUPTED
    try:
        result = train_file(str(queue.config_path(job)), overrides, resume)
    except SystemExit as end:
        return end.code if isinstance(end.code, int) else int(end.code is not None)
    except BaseException as error:
        outcome = outcome_of(error)
        if outcome is None:
            traceback.print_exc()
            return FAILURE
        # The last words of the log become the message of the job.
        sentence, code = outcome
        print(sentence, file=sys.stderr, flush=True)
        return code
    return INTERRUPTED if result.interrupted else 0


def _prepare(queue: Queue, job: Job) -> tuple[list[str], str | None]:
    """Write the settings and tidy the folder; returns overrides and what to resume."""
    path = queue.config_path(job)
    text = json.dumps(job.config, indent=2, ensure_ascii=False) + "\n"
    with atomic_write(path) as part:
        part.write_text(text, encoding="utf-8", newline="\n")
    overrides = []
    if job.device:
        # The process sees one GPU alone (``slots.environment_of``), which is cuda.
        device = "cuda" if job.device.isdecimal() else job.device
        overrides.append(f"device={device}")
    if job.folder.has_checkpoint:
        return overrides, str(job.run_dir)
    if job.run_dir.exists():
        _remove_remains(job)
    return overrides, None


def _remove_remains(job: Job) -> None:
    """Remove what an attempt left that was killed before its first checkpoint.

    Raises:
        OutputError: the folder is not such a one.
    """
    folder = job.folder
    ours = different_settings(folder, job.config) in ([], None)
    if job.attempt < 2 or not ours or any(folder.lora.glob("*")):
        raise OutputError(
            f"{job.run_dir} exists and is of another run; give this job another "
            f"run_name or output_dir, or move that folder away."
        )
    shutil.rmtree(job.run_dir)


if __name__ == "__main__":
    main()
