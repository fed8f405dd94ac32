"""Status of a training as text."""

from __future__ import annotations

import time

from ...jobs import Job, JobState
from ...metrics.tags import AVERAGE_LOSS, LOSS_LABEL, MEAN_RANK, measured_at
from ...runs.pace import duration
from .run_record import RunRecord

__all__ = ["IDLE", "figures", "headline", "memory_of"]

IDLE = "No training is running."

_WORDS = {
    JobState.WAITING: "waiting in the queue",
    JobState.RUNNING: "running",
    JobState.PAUSED: "paused (checkpoint saved)",
    JobState.DONE: "done",
    JobState.FAILED: "failed",
    JobState.CANCELLED: "cancelled",
}


def headline(record: RunRecord, job: Job | None) -> str:
    """Return a short description of the state of a training."""
    if job is None:
        return record.state
    if job.wish:
        return "stopping: finishing the current step and saving"
    if job.state is JobState.RUNNING and record.state != "running":
        since = duration(max(0.0, time.time() - (job.started or time.time())))
        return f"starting: loading the model and caching images ({since})"
    return _WORDS[job.state]


def figures(record: RunRecord, job: Job | None) -> str:
    """Format the latest values in a line. Missing values are omitted."""
    parts = []
    if record.steps:
        parts.append(f"step {record.step}/{record.steps}")
    left = record.seconds_left
    if left is not None:
        parts.append(f"{duration(left)} left")
    for tag, name in (
        (AVERAGE_LOSS, LOSS_LABEL),
        ("validation/loss", "validation loss"),
    ):
        value = record.latest(tag)
        if value is not None:
            parts.append(f"{_label(record, tag, name)} {value:.4f}")
    rank = record.latest(MEAN_RANK)
    if rank is not None:
        of = f" of {record.ranks.rank:g}" if record.ranks.rank else ""
        parts.append(f"{_label(record, MEAN_RANK, 'effective rank')} {rank:.1f}{of}")
    memory = memory_of(job)
    if memory:
        parts.append(memory)
    return "   ·   ".join(parts)


def _label(record: RunRecord, tag: str, name: str) -> str:
    return measured_at(name, int(record.series[tag].steps[-1]), record.step)


def memory_of(job: Job | None) -> str:
    """Return the current memory use of the job's process, or ""."""
    if job is None or job.pid is None:
        return ""
    import psutil

    try:
        held = psutil.Process(job.pid).memory_info().rss
    except psutil.Error:
        return ""
    return f"RAM {held / 1e9:.1f} GB"
