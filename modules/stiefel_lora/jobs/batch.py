"""Training of a batch of jobs, resuming an earlier batch if there is one."""

from __future__ import annotations

import hashlib
import json
import time
from collections.abc import Sequence
from pathlib import Path

from ..runs.interrupts import InterruptWatch
from .adding import sync_jobs
from .engine import Engine, LocalEngine
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
    """Return the folder of a batch. It is the same if a command is repeated.

    Args:
        plans: settings of the jobs.
        configs: config arguments as given on the command line.
        texts: ``--set`` and ``--sweep`` arguments as given.
    """
    command = [*(str(Path(config).absolute()) for config in configs), "--", *texts]
    digest = hashlib.sha256(json.dumps(command).encode()).hexdigest()[:6]
    stem = Path(configs[0]).stem.strip("*") or "jobs"
    return plans[0].config.output_dir / f"batch-{stem}-{digest}"


def run_batch(
    folder: Path, plans: Sequence[Plan], slots: Sequence[str] | Engine = ("",)
) -> list[Job]:
    """Train all unfinished jobs. Ctrl-C saves and stops them.

    If another process is running this batch, its progress is shown. If that process
    exits, this process runs the remaining jobs.

    Args:
        folder: folder of the batch.
        plans: settings of the jobs.
        slots: devices of this machine, or another engine.

    Returns:
        Jobs in their final state, in the order of ``plans``.

    Raises:
        QueueError: If the folder of the batch or of a run belongs to another training.
        OutputError: If the disk is full. Running jobs are not affected.
        TrainingError: If the connection to a cluster is lost.
    """
    engine = LocalEngine(slots) if isinstance(slots, Sequence) else slots
    queue = Queue(folder)
    jobs = sync_jobs(queue, plans)
    order = [job.id for job in jobs]
    runner = Runner(queue, engine)
    queue.note(f"Batch of {len(jobs)} jobs in {folder}: {counts(jobs)}.")
    try:
        with View(queue) as view, InterruptWatch(lambda: _stop(runner, view)):
            _work(runner, view)
    finally:
        runner.leave()
    return [queue.job(number) for number in order]


def _stop(runner: Runner, view: View) -> None:
    runner.stop()
    view.say(
        "Stopping: running jobs are saving. Press Ctrl-C again to exit without waiting."
    )


def _work(runner: Runner, view: View) -> None:
    announced = False
    while True:
        if runner.lead():
            busy = runner.tick()
        else:
            if not announced:
                view.say("Another process is running this batch; showing its progress.")
            announced = True
            busy = bool(runner.queue.unfinished()) and not runner.stopping
        view.show()
        if not busy:
            return
        time.sleep(_TICK_SECONDS)
