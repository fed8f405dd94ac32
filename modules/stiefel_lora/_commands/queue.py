"""Command ``queue``: run trainings in the background."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, cast, get_args

import typer

from ._shared import PluginOption, SetOption, WholeSummaries, user_errors
from .batch import ConfigsArgument, DevicesOption, JobsOption, SweepOption

if TYPE_CHECKING:
    from collections.abc import Sequence

    from ..jobs import Direction, Job, Plan, Queue

__all__ = ["app"]

app = typer.Typer(
    cls=WholeSummaries,
    help="Train jobs in the background, one after the other. The GUI uses the same "
    "queue.",
    no_args_is_help=True,
    rich_markup_mode=None,
)

_HEADINGS = (
    "id",
    "job",
    "state",
    "device",
    "step",
    "time left",
    "validation loss",
    "remark",
)
# Width of the list in a file or pipe, where lines are not wrapped.
_FILE_WIDTH = 1000

QueueOption = Annotated[
    Path | None,
    typer.Option(
        "--queue",
        metavar="DIR",
        help="Folder of the queue or batch. The default is $STIEFEL_LORA_QUEUE if "
        "it is set, and ~/.stiefel_lora/queue otherwise.",
        show_default=False,
    ),
]
NumbersArgument = Annotated[
    list[int] | None,
    typer.Argument(metavar="[ID]...", help="Job IDs.", show_default=False),
]
NumberArgument = Annotated[
    int, typer.Argument(metavar="ID", help="Job ID.", show_default=False)
]


@app.command()
def add(
    configs: ConfigsArgument,
    sweeps: SweepOption = None,
    overrides: SetOption = None,
    queue: QueueOption = None,
    plugins: PluginOption = None,
) -> None:
    """Add jobs without starting them. Run 'queue start' to start them."""
    with user_errors():
        from ..jobs import add_jobs, make_plans

        plans = make_plans(configs, overrides or (), sweeps or (), plugins or ())
        check_machines(plans)
        _print_jobs("Added", add_jobs(_open(queue, make=True), plans))


@app.command("list")
def list_jobs(queue: QueueOption = None) -> None:
    """List the jobs and their progress."""
    with user_errors():
        from ..jobs import is_running

        opened = _open(queue)
        opened.reap_dead_jobs()
        _print_table(opened)
        if opened.unfinished() and not is_running(opened):
            typer.echo(
                "The queue is not running. Start it with: stiefel-lora queue start"
            )


@app.command()
def start(
    numbers: NumbersArgument = None,
    jobs: JobsOption = None,
    devices: DevicesOption = None,
    queue: QueueOption = None,
) -> None:
    """Run waiting jobs in the background.

    Paused jobs are resumed, too. If IDs are given, only these jobs are resumed.
    """
    with user_errors():
        from ..jobs import parse_slots, release_jobs, start_runner

        opened, slots = _open(queue), parse_slots(jobs, devices)
        opened.reap_dead_jobs()
        _print_jobs("Resumed", release_jobs(opened, numbers or ()))
        if not opened.unfinished():
            typer.echo("No jobs are waiting. Add jobs first: stiefel-lora queue add")
        elif start_runner(opened, slots):
            typer.echo(
                "The queue is running in the background. Show its progress with: "
                "stiefel-lora queue list"
            )
        else:
            typer.echo("The queue is already running and will also run these jobs.")


@app.command()
def move(
    number: NumberArgument,
    where: Annotated[
        str,
        typer.Argument(metavar="WHERE", help="first, up, down or last."),
    ] = "first",
    queue: QueueOption = None,
) -> None:
    """Change the order of waiting jobs. By default, the job becomes the next one."""
    with user_errors():
        from .._exceptions import QueueError
        from ..jobs import Direction, move_job

        if where not in get_args(Direction):
            known = ", ".join(get_args(Direction))
            raise QueueError(f"WHERE: {where} is not supported. Use one of {known}.")
        opened = _open(queue)
        _print_jobs("Moved", [move_job(opened, number, cast("Direction", where))])
        typer.echo("Order: " + ", ".join(str(j.id) for j in opened.unfinished()))


@app.command()
def pause(numbers: NumbersArgument = None, queue: QueueOption = None) -> None:
    """Pause the given jobs, or all jobs if no ID is given.

    Running jobs save a checkpoint and stop.
    """
    with user_errors():
        from ..jobs import pause_jobs

        _print_jobs("Paused", pause_jobs(_open(queue), numbers or ()))


@app.command()
def cancel(
    numbers: NumbersArgument = None,
    everything: Annotated[
        bool, typer.Option("--all", help="Cancel all unfinished jobs.")
    ] = False,
    now: Annotated[
        bool, typer.Option("--now", help="Stop running jobs without saving.")
    ] = False,
    queue: QueueOption = None,
) -> None:
    """Cancel the given jobs. Running jobs save a checkpoint and stop."""
    with user_errors():
        from .._exceptions import QueueError
        from ..jobs import cancel_jobs

        if bool(numbers) == everything:
            raise QueueError("No jobs given. Give job IDs or --all.")
        _print_jobs("Cancelled", cancel_jobs(_open(queue), numbers or (), now=now))


@app.command()
def retry(numbers: NumbersArgument = None, queue: QueueOption = None) -> None:
    """Requeue the given jobs, or all failed jobs if no ID is given."""
    with user_errors():
        from ..jobs import retry_jobs

        _print_jobs("Requeued", retry_jobs(_open(queue), numbers or ()))


@app.command()
def log(
    number: NumberArgument,
    follow: Annotated[
        bool, typer.Option("--follow", "-f", help="Follow the log until the job ends.")
    ] = False,
    queue: QueueOption = None,
) -> None:
    """Print the log of a job."""
    with user_errors():
        from ..jobs import follow_log, read_log

        opened = _open(queue)
        job = opened.job(number)
        for line in follow_log(opened, job) if follow else read_log(opened, job):
            typer.echo(line)


@app.command()
def clear(queue: QueueOption = None) -> None:
    """Remove finished jobs from the list. Run folders and files are kept."""
    with user_errors():
        from ..jobs import clear_jobs

        _print_jobs("Removed", clear_jobs(_open(queue)))


def check_machines(plans: Sequence[Plan]) -> None:
    """Check that this machine has the hardware for all jobs.

    Raises:
        ConfigError: If it does not. The message names the file.
    """
    from ..config.packages import needs_machine

    chosen = [plan for plan in plans if needs_machine(plan.config)]
    if not chosen:
        # torch is not imported.
        return
    from .._entry import hush_libraries
    from .._exceptions import ConfigError

    hush_libraries()
    from ..training.backend import check_machine

    for plan in chosen:
        try:
            check_machine(plan.config)
        except ConfigError as error:
            raise ConfigError(f"{plan.source}: {error}", key=error.key) from None


def _open(folder: Path | None, *, make: bool = False) -> Queue:
    from .._exceptions import QueueError
    from ..jobs import Queue, default_folder

    folder = folder or default_folder()
    if not make and not (folder / "queue.sqlite3").is_file():
        raise QueueError(
            f"There is no queue in {folder}. Add jobs first: stiefel-lora queue add"
        )
    return Queue(folder)


def _print_jobs(verb: str, jobs: Sequence[Job]) -> None:
    for job in jobs:
        state = "saving and stopping" if job.wish else ""
        typer.echo(f"{verb}: {job.id} {job.name} {state}".rstrip())


def _print_table(queue: Queue) -> None:
    from rich.console import Console
    from rich.table import Table

    from ..jobs import Watch
    from ..runs.pace import duration

    table = Table()
    for heading in _HEADINGS:
        # Long texts continue in the next line: names often differ only at their ends.
        table.add_column(heading, overflow="fold", min_width=min(len(heading), 8))
    for job in queue.jobs():
        watch = Watch(job)
        found = watch.progress()
        loss = "" if found.validation_loss is None else f"{found.validation_loss:.4f}"
        state = f"{job.state.value} ({job.wish})" if job.wish else job.state.value
        percent = 100 * found.step // max(1, job.steps)
        steps = f"{found.step}/{job.steps} ({percent} %)"
        left = watch.seconds_left(job)
        time = "" if left is None else duration(left)
        table.add_row(
            str(job.id), job.name, state, job.device, steps, time, loss, job.message
        )
    console = Console()
    if not console.is_terminal:
        console = Console(width=_FILE_WIDTH)
    console.print(table, markup=False)
