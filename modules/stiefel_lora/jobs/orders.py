"""Commands to a queue: move, pause, resume, cancel, retry and clear.

A running training is stopped by a file in its ``commands`` folder. It finishes the
current step, saves a checkpoint and exits. Each function returns the changed jobs.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable
from typing import Literal

from .._exceptions import QueueError
from ..runs.commands import send_command
from .job import OVER, Job, JobState, PendingAction
from .processes import send_end
from .queue import Queue
from .store import PLACE

__all__ = [
    "Direction",
    "cancel_jobs",
    "clear_jobs",
    "move_job",
    "pause_jobs",
    "release_jobs",
    "remind",
    "retry_jobs",
]

Direction = Literal["first", "up", "down", "last"]
"""Target of a move in the queue."""

_HELD_BACK = (JobState.PAUSED,)
_UNSUCCESSFUL = (JobState.FAILED, JobState.CANCELLED)


def release_jobs(queue: Queue, numbers: Collection[int] = ()) -> list[Job]:
    """Requeue the given paused jobs, or all paused jobs.

    Raises:
        QueueError: If a job does not exist, or has ended (see :func:`retry_jobs`).
    """
    for job in _named(queue, numbers):
        if job.state in OVER:
            raise QueueError(
                f"Job {job.id} ({job.name}) is {job.state.value}. Use stiefel-lora "
                "queue retry."
            )
    return _to_waiting(queue, numbers, _HELD_BACK)


def retry_jobs(queue: Queue, numbers: Collection[int] = ()) -> list[Job]:
    """Requeue the given failed or cancelled jobs, or all failed jobs.

    They resume from their latest checkpoint, if there is one.

    Raises:
        QueueError: If a job does not exist, or has not failed.
    """
    for job in _named(queue, numbers):
        if job.state not in _UNSUCCESSFUL:
            raise QueueError(
                f"Job {job.id} ({job.name}) is {job.state.value}. Only failed or "
                "cancelled jobs can be retried."
            )
    return _to_waiting(queue, numbers, _UNSUCCESSFUL if numbers else (JobState.FAILED,))


def move_job(queue: Queue, number: int, where: Direction) -> Job:
    """Move a waiting or paused job in front of or behind others.

    Args:
        queue: the queue.
        number: ID of the job.
        where: ``first``, ``up``, ``down`` or ``last``, among the waiting and paused
            jobs.

    Raises:
        QueueError: If the job does not exist, or is not waiting or paused.
    """
    job = queue.job(number)
    with queue.store.change() as db:
        rows = db.execute(
            f"SELECT id, {PLACE} AS place FROM job WHERE state IN ('waiting', "
            f"'paused') ORDER BY {PLACE}"
        ).fetchall()
        ids, places = [row["id"] for row in rows], [row["place"] for row in rows]
        if number not in ids:
            raise QueueError(
                f"Job {job.id} ({job.name}) is {job.state.value}. Only waiting or "
                "paused jobs can be moved."
            )
        old = ids.index(number)
        new = {"first": 0, "up": old - 1, "down": old + 1, "last": len(ids) - 1}[where]
        ids.insert(min(max(new, 0), len(ids) - 1), ids.pop(old))
        db.executemany(
            "INSERT OR REPLACE INTO job_order (id, place) VALUES (?, ?)",
            list(zip(ids, places, strict=True)),
        )
    return queue.job(number)


def pause_jobs(queue: Queue, numbers: Collection[int] = ()) -> list[Job]:
    """Pause the given jobs, or all jobs. Running jobs save a checkpoint and stop.

    Raises:
        QueueError: If a job does not exist, or has ended.
    """
    return _stop(queue, numbers, "pause")


def cancel_jobs(
    queue: Queue, numbers: Collection[int] = (), *, now: bool = False
) -> list[Job]:
    """Cancel the given jobs, or all jobs. Running jobs save a checkpoint and stop.

    Args:
        queue: the queue.
        numbers: IDs of the jobs. If empty, all unfinished jobs are used.
        now: whether to kill running processes immediately. Progress since the last
            checkpoint is lost.

    Raises:
        QueueError: If a job does not exist, or has ended.
    """
    changed = _stop(queue, numbers, "cancel")
    for job in changed if now else ():
        send_end(job.pid, job.pid_started, force=True)
    return changed


def clear_jobs(queue: Queue, states: Iterable[JobState] = OVER) -> list[Job]:
    """Remove finished jobs from the queue. Run folders and logs are kept."""
    names = [state.value for state in states if state in OVER]
    marks = ", ".join("?" * len(names))
    found = queue.store.select(f"state IN ({marks})", *names)
    with queue.store.change() as db:
        db.executemany(
            f"DELETE FROM job WHERE id = ? AND state IN ({marks})",
            [(job.id, *names) for job in found],
        )
    return found


def remind(job: Job) -> None:
    """Send a running training the command to save and stop."""
    if job.run_dir.exists():
        send_command(job.run_dir, "stop")
    else:
        # It is still loading and has nothing to save.
        send_end(job.pid, job.pid_started)


def _stop(queue: Queue, numbers: Collection[int], wish: PendingAction) -> list[Job]:
    named = _named(queue, numbers)
    for job in named:
        if job.state in OVER and not (
            wish == "cancel" and job.state is JobState.FAILED
        ):
            raise QueueError(f"Job {job.id} ({job.name}) is already {job.state.value}.")
    state = JobState.PAUSED if wish == "pause" else JobState.CANCELLED
    stoppable = ["waiting", "paused"] if wish == "cancel" else ["waiting"]
    stoppable += ["failed"] if wish == "cancel" and numbers else []
    ids = [job.id for job in named or queue.jobs()]
    marks = ", ".join("?" * len(stoppable))
    # The state is part of the conditions, since a runner may have started a job after
    # it was read above. It is then stopped by the second statement instead.
    with queue.store.change() as db:
        for number in ids:
            db.execute(
                f"UPDATE job SET state = ?, message = ? "
                f"WHERE id = ? AND state IN ({marks})",
                (
                    state.value,
                    f"{state.value.capitalize()} by the user.",
                    number,
                    *stoppable,
                ),
            )
            db.execute(
                "UPDATE job SET wish = ? WHERE id = ? AND state = 'running'",
                (wish, number),
            )
    after = [queue.job(number) for number in ids]
    for job in after:
        if job.wish:
            remind(job)
    before = {job.id: job for job in named or ()}
    return [
        job
        for job in after
        if (job.wish or job.state is state) and job != before.get(job.id)
    ]


def _to_waiting(
    queue: Queue, numbers: Collection[int], states: Iterable[JobState]
) -> list[Job]:
    changed = [
        job for job in _named(queue, numbers) or queue.jobs() if job.state in states
    ]
    with queue.store.change() as db:
        for job in changed:
            db.execute(
                "UPDATE job SET state = 'waiting', deaths = 0, message = '' "
                "WHERE id = ? AND state = ?",
                (job.id, job.state.value),
            )
    return changed


def _named(queue: Queue, numbers: Iterable[int]) -> list[Job]:
    return [queue.job(number) for number in numbers]
