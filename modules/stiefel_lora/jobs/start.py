"""A runner in the background, for command line and GUI."""

from __future__ import annotations

import time
from collections.abc import Sequence

from .._exceptions import OutputError
from .._locks import is_held
from .processes import start_detached
from .queue import Queue
from .verdict import last_words

__all__ = ["is_running", "start_runner"]

_START_SECONDS = 30.0


def is_running(queue: Queue) -> bool:
    """Whether a runner works on the queue."""
    return is_held(queue.runner_lock_path)


def start_runner(queue: Queue, slots: Sequence[str] = ("",)) -> bool:
    """Let a process in the background run the waiting jobs until none is left.

    It outlives the caller and its terminal. Add jobs first: a runner that is about to
    end looks once more after it has given up its lock.

    Args:
        queue: the queue.
        slots: devices, one a job at a time; "" lets the configuration decide.

    Returns:
        False where a runner works on the queue already; it takes the jobs.

    Raises:
        OutputError: the runner could not start; the sentence is its own.
    """
    if is_running(queue):
        return False
    log = queue.folder / "runner.log"
    child = start_detached(
        "stiefel_lora.jobs.background", [str(queue.folder), *slots], log
    )
    until = time.monotonic() + _START_SECONDS
    while time.monotonic() < until:
        code = child.poll()
        if code:
            raise OutputError(last_words(log) or f"The runner ended with code {code}.")
        # One that ended well has found nothing left to do.
        if code == 0 or is_running(queue):
            return True
        time.sleep(0.05)
    raise OutputError(f"The runner did not start within {_START_SECONDS:.0f} seconds.")
