"""Adding jobs to a queue, without duplicate jobs or run folders."""

from __future__ import annotations

import json
import os
import sqlite3
import time
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path

from .._exceptions import QueueError
from ..runs.run_folder import RunFolder
from .evidence import different_settings, is_finished
from .job import Job, JobState
from .plan import Plan
from .queue import Queue

__all__ = ["add_jobs", "check_same_settings", "sync_jobs"]


def add_jobs(queue: Queue, plans: Iterable[Plan], *, rename: bool = False) -> list[Job]:
    """Add jobs to a queue. If one of them is invalid, none is added.

    Args:
        queue: the queue.
        plans: settings of the jobs.
        rename: whether to append a number to the name (``cats-2``) if a run folder or
            job with this name exists. If False, an error is raised.

    Raises:
        QueueError: If the folder belongs to another job or run.
    """
    plans = list(plans)
    if rename:
        taken = {job.run_dir for job in queue.jobs()}
        plans = [_renamed(plan, taken) for plan in plans]
    for plan in plans:
        run_dir = plan.config.run_dir
        if run_dir.exists():
            raise QueueError(
                f"run_name: {run_dir} contains an earlier run. Set another run_name "
                f"or output_dir in {plan.source}."
            )
    return _insert(queue, plans, lambda plan: JobState.WAITING)


def sync_jobs(queue: Queue, plans: Sequence[Plan]) -> list[Job]:
    """Replace the jobs of a queue with ``plans``, keeping finished jobs.

    Jobs with a finished run of the same settings are marked as finished. Failed, paused
    and cancelled jobs are requeued. Jobs that are not in ``plans`` are removed. Several
    processes can call this function at the same time.

    Raises:
        QueueError: If a folder belongs to another training, or a running job is not
            part of the plan.
    """
    before = {job.run_dir for job in queue.jobs()}
    try:
        return _sync(queue, plans)
    except QueueError:
        if {job.run_dir for job in queue.jobs()} == before:
            raise
        # Another process added jobs in the meantime and may have created their folders.
        return _sync(queue, plans)


def _sync(queue: Queue, plans: Sequence[Plan]) -> list[Job]:
    known = {job.run_dir: job for job in queue.jobs()}
    planned = {plan.config.run_dir for plan in plans}
    for job in known.values():
        if job.run_dir not in planned and job.state is JobState.RUNNING:
            raise QueueError(
                f"{job.name} is still running in {queue.folder} and is not part of "
                "this batch. Wait until it ends, or use another --folder."
            )
    new = [plan for plan in plans if plan.config.run_dir not in known]
    states = {plan.config.run_dir: _state_on_disk(plan) for plan in new}
    again = [
        (job, plan)
        for plan in plans
        if (job := known.get(plan.config.run_dir)) and _goes_again(job, plan)
    ]
    with queue.store.change() as db:
        for job in known.values():
            if job.run_dir not in planned:
                db.execute("DELETE FROM job WHERE id = ?", (job.id,))
        for job, plan in again:
            db.execute(
                "UPDATE job SET state = 'waiting', config = ?, source = ?, "
                "changes = ?, deaths = 0, message = '' "
                # Another runner may have started or finished it in the meantime.
                "WHERE id = ? AND state = ?",
                (*_texts(plan), job.id, job.state.value),
            )
    _insert(queue, new, lambda plan: states[plan.config.run_dir])
    order = {plan.config.run_dir: place for place, plan in enumerate(plans)}
    return sorted(queue.jobs(), key=lambda job: order[job.run_dir])


def check_same_settings(plan: Plan) -> None:
    """Check that an existing run in the folder of a plan has the same settings.

    Raises:
        QueueError: If the settings differ.
    """
    changed = different_settings(RunFolder(plan.config.run_dir), plan.settings)
    if changed:
        raise _other_settings(plan, changed)


def _goes_again(job: Job, plan: Plan) -> bool:
    """Return whether an existing job is requeued with the settings of ``plan``."""
    if job.state is JobState.RUNNING:
        return False
    if job.state is not JobState.DONE:
        return True
    changed = different_settings(job.folder, plan.settings)
    if changed is None:
        # Its files were moved or removed, so it is trained again.
        return True
    if changed:
        raise _other_settings(plan, changed)
    return False


def _state_on_disk(plan: Plan) -> JobState:
    """Return whether the run is finished or new. Raise an error if it is unfinished."""
    run = RunFolder(plan.config.run_dir)
    if not run.root.exists():
        return JobState.WAITING
    changed = different_settings(run, plan.settings)
    if changed:
        raise _other_settings(plan, changed)
    if changed is not None and is_finished(run, plan.config.steps):
        return JobState.DONE
    raise QueueError(
        f"run_name: {run.root} contains an unfinished run that was not started by "
        "this batch. Finish it with stiefel-lora train, or use another run_name."
    )


def _other_settings(plan: Plan, changed: Sequence[str]) -> QueueError:
    return QueueError(
        f"run_name: {plan.config.run_dir} was trained with other values of "
        f"{', '.join(changed)}. Set another run_name or output_dir in "
        f"{plan.source}, or move that folder."
    )


def _renamed(plan: Plan, taken: set[Path]) -> Plan:
    name, number = plan.config.run_name, 1
    config = plan.config
    while config.run_dir in taken or config.run_dir.exists():
        number += 1
        config = plan.config.model_copy(update={"run_name": f"{name}-{number}"})
    taken.add(config.run_dir)
    return Plan(config, plan.source, plan.changes)


def _insert(
    queue: Queue, plans: Sequence[Plan], state_of: Callable[[Plan], JobState]
) -> list[Job]:
    numbers = []
    with queue.store.change() as db:
        for plan in plans:
            try:
                done = db.execute(
                    "INSERT INTO job (config, source, changes, run_dir, state, added) "
                    "VALUES (?, ?, ?, ?, ?, ?)",
                    (
                        *_texts(plan),
                        os.path.normcase(plan.config.run_dir),
                        state_of(plan).value,
                        time.time(),
                    ),
                )
            # The column run_dir is unique. A check before the insertion would miss a
            # job that another process adds in between.
            except sqlite3.IntegrityError:
                raise QueueError(
                    "run_name: another job of this queue uses "
                    f"{plan.config.run_dir}. Set another run_name or output_dir in "
                    f"{plan.source}."
                ) from None
            numbers.append(done.lastrowid)
    return [queue.job(number) for number in numbers if number is not None]


def _texts(plan: Plan) -> tuple[str, str, str]:
    return (
        json.dumps(plan.settings, ensure_ascii=False),
        plan.source,
        json.dumps(plan.changes, ensure_ascii=False),
    )
