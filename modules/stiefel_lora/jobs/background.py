"""Runner process: ``python -m stiefel_lora.jobs.background FOLDER [SLOT]...``."""

from __future__ import annotations

import sys
import time

from .._exceptions import StiefelLoraError
from .engine import LocalEngine
from .queue import Queue
from .runner import Runner

__all__ = ["main"]

_TICK_SECONDS = 0.5


def main() -> None:
    """Run the jobs of the queue on the command line until all jobs have ended."""
    folder, *slots = sys.argv[1:]
    queue = Queue(folder)
    runner = Runner(queue, LocalEngine(slots))
    try:
        _work(queue, runner)
    except StiefelLoraError as error:
        queue.note(f"The runner stopped: {error}")
        sys.exit(str(error))


def _work(queue: Queue, runner: Runner) -> None:
    # Retry: a process that only checks the lock may hold it for an instant.
    while runner.lead(seconds=1.0):
        try:
            while runner.tick():
                time.sleep(_TICK_SECONDS)
        finally:
            runner.leave()
        # A job added just before exit relied on this runner, so look once more.
        if not queue.unfinished():
            return


if __name__ == "__main__":
    main()
