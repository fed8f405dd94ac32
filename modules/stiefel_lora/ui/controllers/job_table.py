"""Table of the Queue tab, and its commands."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from ...jobs import Job, JobState, Watch
from ...runs.pace import duration
from .run_orders import Order

__all__ = ["QUEUE_HINT", "QUEUE_ORDERS", "JobTable", "allowed_for_job"]

QUEUE_ORDERS = (
    Order(
        "add",
        "Add to queue",
        "Add a training with the current settings to the end of the queue",
    ),
    Order("show", "Show", "Show this training on the Run tab"),
    Order("up", "▲ Up", "Train before the previous waiting training"),
    Order("down", "▼ Down", "Train after the next waiting training"),
    Order("stop", "Stop", "Save a checkpoint after the current step and stop"),
    Order("resume", "Resume", "Resume from the last checkpoint"),
    Order(
        "cancel",
        "Cancel",
        "Remove this training from the queue. A running training saves a checkpoint "
        "and stops",
    ),
    Order(
        "clear",
        "Clear finished",
        "Remove finished trainings from the list. Their files are kept",
    ),
)
QUEUE_HINT = (
    "Trainings run one at a time in separate processes and continue when this window "
    "is closed. The queue is shared with the command line: stiefel-lora queue list."
)
_MOVABLE = (JobState.WAITING, JobState.PAUSED)


class JobTable:
    """Texts of the table, with the progress of each job."""

    HEADINGS = (
        "Name",
        "State",
        "Steps",
        "Progress",
        "Time left",
        "Loss",
        "Validation loss",
        "Effective rank",
        "Message",
    )

    def __init__(self) -> None:
        self._watches: dict[Path, Watch] = {}

    def texts(self, job: Job) -> tuple[str, ...]:
        """Return the texts of the row of a job."""
        watch = self._watches.setdefault(job.run_dir, Watch(job))
        found = watch.progress()
        left = watch.seconds_left(job)
        state = f"{job.state.value} ({job.wish})" if job.wish else job.state.value
        return (
            job.name,
            state,
            f"{found.step} / {job.steps}",
            f"{100 * found.step // max(1, job.steps)} %",
            "" if left is None else duration(left),
            _number(found.loss, 4),
            _number(found.validation_loss, 4),
            _number(found.effective_rank, 1),
            job.message,
        )


def allowed_for_job(job: Job | None, jobs: Sequence[Job]) -> dict[str, bool]:
    """Return which commands are available, except for that to add a job.

    Args:
        job: the selected job.
        jobs: all jobs in queue order.
    """
    state = job.state if job else None
    movable = [j.id for j in jobs if j.state in _MOVABLE]
    place = movable.index(job.id) if job and job.id in movable else None
    return {
        "show": job is not None,
        "up": bool(place),
        "down": place is not None and place < len(movable) - 1,
        "stop": state in (JobState.RUNNING, JobState.WAITING),
        "resume": state in (JobState.PAUSED, JobState.FAILED, JobState.CANCELLED),
        "cancel": state in (JobState.RUNNING, JobState.WAITING, JobState.PAUSED),
        "clear": bool(jobs),
    }


def _number(value: float | None, digits: int) -> str:
    return "" if value is None else f"{value:.{digits}f}"
