"""Start of a runner in the background."""

from __future__ import annotations

import time
from collections.abc import Sequence

from .._exceptions import OutputError
from .._locks import is_held
from .processes import start_detached
from .queue import Queue
from .verdict import last_message

__all__ = ["is_running", "start_runner"]

_START_SECONDS = 30.0


def is_running(queue: Queue) -> bool:
    """Return whether a runner is active."""
    return is_held(queue.runner_lock_path)


def start_runner(queue: Queue, slots: Sequence[str] = ("",)) -> bool:
    """Start a background process that runs the waiting jobs of a queue.

    It exits when all jobs have ended, and continues if this process or its terminal is
    closed. Add jobs before calling this function, because a runner that is exiting
    checks for new jobs once more.

    Args:
        queue: the queue.
        slots: devices. Each of them runs one job at a time. "" is the device of the
            configuration.

    Returns:
            False if a runner is already active. It will run the new jobs.

    Raises:
        OutputError: If the runner cannot be started.
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
            raise OutputError(
                last_message(log) or f"The runner exited with code {code}."
            )
        # Exit code 0: it found no jobs to run.
        if code == 0 or is_running(queue):
            return True
        time.sleep(0.05)
    raise OutputError(f"The runner did not start within {_START_SECONDS:.0f} seconds.")
