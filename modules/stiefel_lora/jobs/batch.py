"""Many trainings with one command, which goes on where an earlier one was ended."""

from __future__ import annotations

import hashlib
import json
import signal
import threading
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from types import FrameType
from typing import Any

from .adding import sync_jobs
from .job import Job
from .plan import Plan
from .queue import Queue
from .runner import Runner
from .view import View, counts

__all__ = ["batch_folder", "run_batch"]

_TICK_SECONDS = 0.25


def batch_folder(
    plans: Sequence[Plan], configs: Sequence[str], texts: Sequence[str]
) -> Path:
    """Folder of a batch: the same for the same command, beside its runs.

    Args:
        plans: the jobs.
        configs: as given on the command line.
        texts: settings and sweeps, as given.
    """
    command = [*(str(Path(config).absolute()) for config in configs), "--", *texts]
    digest = hashlib.sha256(json.dumps(command).encode()).hexdigest()[:6]
    stem = Path(configs[0]).stem.strip("*") or "jobs"
    return plans[0].config.output_dir / f"batch-{stem}-{digest}"


def run_batch(folder: Path, plans: Sequence[Plan], slots: Sequence[str]) -> list[Job]:
    """Train all jobs that are not finished; Ctrl-C saves and ends.

    When another process runs this batch already, its progress is shown, and its work is
    taken over should it end.

    Returns:
        The jobs as they are at the end, in the order of ``plans``.

    Raises:
        QueueError: the folder, or that of a run, is in use by another training.
        OutputError: the disk is full; running jobs go on by themselves.
    """
    queue = Queue(folder)
    jobs = sync_jobs(queue, plans)
    order = [job.id for job in jobs]
    runner = Runner(queue, slots)
    queue.note(f"Batch of {len(jobs)} jobs in {folder}: {counts(jobs)}.")
    try:
        with View(queue) as view, _Interrupts(runner, view.say):
            _work(runner, view)
    finally:
        runner.leave()
    return [queue.job(number) for number in order]


def _work(runner: Runner, view: View) -> None:
    told = False
    while True:
        if runner.lead():
            busy = runner.tick()
        else:
            if not told:
                view.say("Another process runs this batch; this one looks on.")
            told = True
            busy = bool(runner.queue.unfinished()) and not runner.stopping
        view.show()
        if not busy:
            return
        time.sleep(_TICK_SECONDS)


class _Interrupts:
    """Ctrl-C and SIGTERM stop the jobs; a second one does not wait for them."""

    def __init__(self, runner: Runner, say: Callable[[str], None]) -> None:
        self._runner = runner
        self._say = say
        self._before: dict[int, Any] = {}

    def __enter__(self) -> None:
        if threading.current_thread() is threading.main_thread():
            for number in (signal.SIGINT, signal.SIGTERM):
                self._before[number] = signal.signal(number, self._on_signal)

    def __exit__(self, *exc: object) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)

    def _on_signal(self, number: int, frame: FrameType | None) -> None:
        if self._runner.stopping:
            raise KeyboardInterrupt
        self._runner.stop()
        self._say("Stopping: the running jobs save first. Again: do not wait for them.")
