"""Commands of the Run tab, and their availability and execution."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple, cast, get_args

from ...jobs import Job, JobState
from ...runs.commands import Command
from .run_record import RunRecord
from .trainings import Trainings

__all__ = [
    "NO_RUN",
    "RUN_ORDERS",
    "Order",
    "allowed_orders",
    "complaint",
    "execute",
]


class Order(NamedTuple):
    """Command with its button."""

    name: str
    label: str
    hint: str


RUN_ORDERS = (
    Order(
        "stop",
        "Stop",
        "Save a checkpoint after the current step and stop. The training can be "
        "resumed later",
    ),
    Order("resume", "Resume", "Resume from the last checkpoint"),
    Order("sample", "Sample now", "Generate sample images after the current step"),
    Order(
        "save", "Save now", "Save a checkpoint and a LoRA file after the current step"
    ),
)
"""Commands for a training."""

NO_RUN = (
    "No training yet. Choose a preset, a model and images, then press Start training."
)


def allowed_orders(record: RunRecord | None, job: Job | None) -> dict[str, bool]:
    """Return which commands are available in the current state.

    Args:
        record: values of the run, or None if no run is shown.
        job: its job, or None for a run that another program started.
    """
    runs = job is not None and job.state is JobState.RUNNING and not job.wish
    waits = job is not None and job.state is JobState.WAITING
    stopped = job is not None and job.state in (
        JobState.PAUSED,
        JobState.FAILED,
        JobState.CANCELLED,
    )
    # Runs started by another program also accept command files.
    foreign = job is None and record is not None and record.state == "running"
    trains = foreign or (runs and record is not None and record.state == "running")
    return {
        "stop": runs or waits or foreign,
        "resume": stopped,
        "sample": trains,
        "save": trains,
    }


def complaint(record: RunRecord, job: Job | None) -> str:
    """Return the error message of a run, or ""."""
    if job is not None and job.state is JobState.DONE:
        return ""
    if job is not None and job.state is JobState.FAILED:
        return job.message
    if record.state == "failed" and (job is None or job.state is not JobState.RUNNING):
        return record.message
    return ""


def execute(
    trainings: Trainings, name: str, job: Job | None, run_dir: Path | None = None
) -> None:
    """Execute a command of the Run or Queue tab.

    Args:
        trainings: the queue.
        name: name of the command.
        job: job of the training, or None for a run that is not in the queue. Only
            commands that can be sent to a run are executed for it.
        run_dir: folder of a run that is not in the queue.

    Raises:
        OutputError: If the queue or the run folder cannot be written.
    """
    if job is None:
        if run_dir is not None and name in get_args(Command):
            trainings.send(run_dir, cast("Command", name))
        return
    orders: dict[str, Callable[[], None]] = {
        "stop": lambda: trainings.stop(job),
        "resume": lambda: trainings.resume(job),
        "cancel": lambda: trainings.cancel(job),
        "up": lambda: trainings.move(job, "up"),
        "down": lambda: trainings.move(job, "down"),
        "sample": lambda: trainings.send(job.run_dir, "sample"),
        "save": lambda: trainings.send(job.run_dir, "save"),
    }
    orders[name]()
