"""``queue``: trainings in the background, shared with the GUI."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from ._shared import PluginOption, SetOption, sentences
from .batch import ConfigsArgument, DevicesOption, JobsOption, SweepOption

if TYPE_CHECKING:
    from collections.abc import Sequence

    from ..jobs import Job, Queue

__all__ = ["app"]

app = typer.Typer(
    help="Train in the background, one job after the other; shared with the GUI.",
    no_args_is_help=True,
    rich_markup_mode=None,
)

QueueOption = Annotated[
    Path | None,
    typer.Option(
        "--queue",
        metavar="DIR",
        help="Folder of the queue, or of a batch. Default: STIEFEL_LORA_QUEUE, or "
        ".stiefel_lora/queue in the home folder.",
        show_default=False,
    ),
]
NumbersArgument = Annotated[
    list[int] | None,
    typer.Argument(metavar="[ID]...", help="Numbers of jobs.", show_default=False),
]
NumberArgument = Annotated[
    int, typer.Argument(metavar="ID", help="Number of a job.", show_default=False)
]


@app.command()
def add(
    configs: ConfigsArgument,
    sweeps: SweepOption = None,
    overrides: SetOption = None,
    queue: QueueOption = None,
    plugins: PluginOption = None,
) -> None:
    """Add jobs; start runs them."""
    with sentences():
        from ..jobs import add_jobs, make_plans

        plans = make_plans(configs, overrides or (), sweeps or (), plugins or ())
        _say("Added", add_jobs(_open(queue, make=True), plans))


@app.command("list")
def list_jobs(queue: QueueOption = None) -> None:
    """Show the jobs and where they stand."""
    with sentences():
        from ..jobs import is_running

        opened = _open(queue)
        opened.reap_dead_jobs()
        _print_table(opened)
        if opened.unfinished() and not is_running(opened):
            typer.echo("No runner works on this queue: stiefel-lora queue start.")


@app.command()
def start(
    numbers: NumbersArgument = None,
    jobs: JobsOption = None,
    devices: DevicesOption = None,
    queue: QueueOption = None,
) -> None:
    """Run the waiting jobs in the background; paused ones, or those named, go on."""
    with sentences():
        from ..jobs import parse_slots, release_jobs, start_runner

        opened, slots = _open(queue), parse_slots(jobs, devices)
        opened.reap_dead_jobs()
        _say("Goes on", release_jobs(opened, numbers or ()))
        if not opened.unfinished():
            typer.echo("Nothing waits in this queue: add jobs first.")
        elif start_runner(opened, slots):
            typer.echo("A runner works in the background; queue list shows how far.")
        else:
            typer.echo("A runner works on this queue already; it takes these jobs too.")


@app.command()
def pause(numbers: NumbersArgument = None, queue: QueueOption = None) -> None:
    """Hold jobs back, those named or all; running ones save and end."""
    with sentences():
        from ..jobs import pause_jobs

        _say("Paused", pause_jobs(_open(queue), numbers or ()))


@app.command()
def cancel(
    numbers: NumbersArgument = None,
    everything: Annotated[
        bool, typer.Option("--all", help="All jobs that are not over.")
    ] = False,
    now: Annotated[
        bool, typer.Option("--now", help="Do not let running jobs save.")
    ] = False,
    queue: QueueOption = None,
) -> None:
    """Take jobs out of the queue; running ones save and end."""
    with sentences():
        from .._exceptions import QueueError
        from ..jobs import cancel_jobs

        if bool(numbers) == everything:
            raise QueueError("Name the jobs to cancel, or write --all.")
        _say("Cancelled", cancel_jobs(_open(queue), numbers or (), now=now))


@app.command()
def retry(numbers: NumbersArgument = None, queue: QueueOption = None) -> None:
    """Let failed jobs, those named or all, wait again; start runs them."""
    with sentences():
        from ..jobs import retry_jobs

        _say("Waits again", retry_jobs(_open(queue), numbers or ()))


@app.command()
def log(
    number: NumberArgument,
    follow: Annotated[
        bool, typer.Option("--follow", "-f", help="Go on until the job ends.")
    ] = False,
    queue: QueueOption = None,
) -> None:
    """Print what a job wrote."""
    with sentences():
        from ..jobs import follow_log, read_log

        opened = _open(queue)
        job = opened.job(number)
        for line in follow_log(opened, job) if follow else read_log(opened, job):
            typer.echo(line)


@app.command()
def clear(queue: QueueOption = None) -> None:
    """Forget the jobs that are over; their folders and files stay."""
    with sentences():
        from ..jobs import clear_jobs

        _say("Forgot", clear_jobs(_open(queue)))


def _open(folder: Path | None, *, make: bool = False) -> Queue:
    from .._exceptions import QueueError
    from ..jobs import Queue, default_folder

    folder = folder or default_folder()
    if not make and not (folder / "queue.sqlite3").is_file():
        raise QueueError(f"There is no queue in {folder} yet: add jobs first.")
    return Queue(folder)


def _say(verb: str, jobs: Sequence[Job]) -> None:
    for job in jobs:
        state = "saves and ends" if job.wish else ""
        typer.echo(f"{verb}: {job.id} {job.name} {state}".rstrip())


def _print_table(queue: Queue) -> None:
    from rich.console import Console
    from rich.table import Table

    from ..jobs import Watch

    table = Table("id", "job", "state", "device", "step", "held-out loss", "remark")
    for job in queue.jobs():
        found = Watch(job).progress()
        loss = "" if found.held_out is None else f"{found.held_out:.4f}"
        state = f"{job.state.value} ({job.wish})" if job.wish else job.state.value
        steps = f"{found.step}/{job.steps}"
        table.add_row(
            str(job.id), job.name, state, job.device, steps, loss, job.message
        )
    Console().print(table, markup=False)
