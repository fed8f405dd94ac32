"""Job queue on disk, its runner, and batches with results. Imports no torch.

Usage from a GUI:

    queue = Queue()                                 # default queue, as in the CLI
    plans = make_plans(["cats.json"], ["steps=500"], ["lora_rank=8,16"])
    jobs = add_jobs(queue, plans, rename=True)      # nothing starts yet
    start_runner(queue, parse_slots(None, "0,1"))   # background process

    for job in queue.jobs():                        # read from disk each time
        job.state, job.name, job.device, job.message
    watch = Watch(job)                              # only reads new events
    watch.progress().step, watch.progress().loss
    Tail(job.folder.events_file).lines()            # all events of the training
    read_log(queue, job, 50)

    move_job(queue, 3, "first")
    pause_jobs(queue, [3])      # saves and stops if running
    release_jobs(queue, [3])    # resumes from the checkpoint
    cancel_jobs(queue, [4], now=True)
    retry_jobs(queue, [5])
    clear_jobs(queue)

Trainings and the runner are separate processes. They continue if the GUI is closed or
crashes, and the GUI shows them again when it opens the same folder. Any number of
processes can read the queue and send commands at the same time. The runner lock allows
only one process to start jobs, and the lock of each run folder allows only one process
to write to it. ``queue.reap_dead_jobs()`` records the result of jobs that were killed
while no runner was active.
"""

from __future__ import annotations

from .adding import add_jobs, sync_jobs
from .batch import run_batch
from .job import Job, JobState
from .logs import follow_log, read_log
from .orders import (
    Direction,
    cancel_jobs,
    clear_jobs,
    move_job,
    pause_jobs,
    release_jobs,
    retry_jobs,
)
from .plan import Plan, make_plans
from .queue import Queue, default_folder
from .report import write_report
from .slots import parse_slots
from .start import is_running, start_runner
from .tail import Progress, Tail, Watch

__all__ = [
    "Direction",
    "Job",
    "JobState",
    "Plan",
    "Progress",
    "Queue",
    "Tail",
    "Watch",
    "add_jobs",
    "cancel_jobs",
    "clear_jobs",
    "default_folder",
    "follow_log",
    "is_running",
    "make_plans",
    "move_job",
    "parse_slots",
    "pause_jobs",
    "read_log",
    "release_jobs",
    "retry_jobs",
    "run_batch",
    "start_runner",
    "sync_jobs",
    "write_report",
]
