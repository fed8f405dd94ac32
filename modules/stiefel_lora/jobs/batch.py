"""Many trainings with one command, which goes on where an earlier one was ended."""

from __future__ import annotations

import hashlib
import json
import time
from collections.abc import Sequence
from pathlib import Path

from ..runs.interrupts import InterruptWatch
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
        with View(queue) as view, InterruptWatch(lambda: _stop(runner, view)):
            _work(runner, view)
    finally:
        runner.leave()
    return [queue.job(number) for number in order]


def _stop(runner: Runner, view: View) -> None:
    runner.stop()
    view.say("Stopping: the running jobs save first. Again: do not wait for them.")


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
