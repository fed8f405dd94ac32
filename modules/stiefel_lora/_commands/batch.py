"""Command ``batch``: run several trainings."""

from __future__ import annotations

import enum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from .._wording import counted
from ._shared import FAILURE, INTERRUPTED, PluginOption, SetOption, unset, user_errors

if TYPE_CHECKING:
    from ..jobs.job import Job
    from ..jobs.plan import Plan

__all__ = [
    "ConfigsArgument",
    "DevicesOption",
    "Engine",
    "JobsOption",
    "SweepOption",
    "batch",
]

_WIDE = 240


class Engine(str, enum.Enum):
    """Place of the processes of a batch."""

    LOCAL = "local"
    RAY = "ray"


ConfigsArgument = Annotated[
    list[str],
    typer.Argument(
        metavar="CONFIG...",
        help="Paths of config files, patterns such as jobs/*.json, or names of "
        "presets.",
        show_default=False,
    ),
]
SweepOption = Annotated[
    list[str] | None,
    typer.Option(
        "--sweep",
        metavar="KEY=V1,V2",
        help="Train a job for each value, e.g. --sweep lora_rank=8,16,32. If the "
        "option is repeated, all combinations are trained. Join keys and values "
        "with + to change several keys together: --sweep "
        "optimizer.name+learning_rate=adamw+0.003,stiefel_lora+0.02.",
        show_default=False,
    ),
]
JobsOption = Annotated[
    int | None,
    typer.Option(
        "--jobs",
        metavar="N",
        help="Number of parallel trainings. The default is 1, or one per "
        "device if --devices is given.",
        show_default=False,
    ),
]
DevicesOption = Annotated[
    str | None,
    typer.Option(
        "--devices",
        metavar="0,1",
        help="Devices to train on, e.g. 0,1 for two GPUs, or cpu, mps or xpu:0. "
        "Each device runs one job at a time.",
        show_default=False,
    ),
]


def batch(
    configs: ConfigsArgument,
    sweeps: SweepOption = None,
    overrides: SetOption = None,
    jobs: JobsOption = None,
    devices: DevicesOption = None,
    folder: Annotated[
        Path | None,
        typer.Option(
            metavar="DIR",
            help="Folder for the results and logs. By default, a folder next to the "
            "run folders is used. It is the same each time a command is "
            "repeated.",
            show_default=False,
        ),
    ] = None,
    dry_run: Annotated[
        bool,
        typer.Option(
            "--dry-run", help="Check and list the jobs without starting them."
        ),
    ] = False,
    plugins: PluginOption = None,
    engine: Annotated[
        Engine,
        typer.Option(
            case_sensitive=False,
            help="Where the jobs run: on this machine, or on a cluster of Ray.",
        ),
    ] = Engine.LOCAL,
    address: Annotated[
        str | None,
        unset(
            "Address of the Ray cluster: host:port, auto for the cluster that this "
            "machine is part of, or local to start Ray on this machine. The default "
            "is RAY_ADDRESS, or local if it is not set.",
            "--address",
            metavar="HOST:PORT",
        ),
    ] = None,
    cores: Annotated[
        int | None,
        typer.Option(
            metavar="N",
            min=1,
            help="CPU cores of each job on Ray. By default, the cores of a node are "
            "divided by its jobs.",
            show_default=False,
        ),
    ] = None,
) -> None:
    """Train several LoRAs in separate processes. Run the command again to resume."""
    with user_errors():
        from ..jobs.batch import batch_folder, run_batch
        from ..jobs.plan import make_plans
        from ..jobs.slots import parse_slots

        slots = parse_slots(jobs, devices)
        found = _address(engine, address, devices, cores)
        plans = make_plans(configs, overrides or (), sweeps or (), plugins or ())
        texts = [*(overrides or ()), *(sweeps or ())]
        folder = folder or batch_folder(plans, configs, texts)
        if dry_run:
            _list(plans, folder)
            return
        if found is None:
            finished = run_batch(folder, plans, slots)
        else:
            finished = _run_on_ray(folder, plans, found, jobs, cores)
        _report(finished, folder)
        raise typer.Exit(_code(finished))


def _address(
    engine: Engine, address: str | None, devices: str | None, cores: int | None
) -> str | None:
    """Return the address of the cluster, or None for the local engine."""
    from .._exceptions import ConfigError

    if engine is Engine.RAY:
        from ..jobs.ray_engine import find_address

        if devices is not None:
            raise ConfigError(
                "--devices: not possible with --engine ray, which assigns a GPU to "
                "each job. Use --jobs to limit their number."
            )
        return find_address(address)
    for name, value in (("--address", address), ("--cores", cores)):
        if value is not None:
            raise ConfigError(
                f"{name}: requires --engine ray. Add it, or remove {name}."
            )
    return None


def _run_on_ray(
    folder: Path, plans: list[Plan], address: str, jobs: int | None, cores: int | None
) -> list[Job]:
    from ..jobs.batch import run_batch
    from ..jobs.ray_engine import RayEngine

    first = "Starting Ray" if address == "local" else "Connecting to Ray"
    typer.echo(f"{first} and checking its nodes.", err=True)
    with RayEngine(folder, plans, address, jobs, cores) as engine:
        nodes = counted(engine.nodes, "node", "nodes")
        at_once = counted(engine.share.slots, "job", "jobs")
        typer.echo(f"Ray: {nodes}, {at_once} at a time.", err=True)
        return run_batch(folder, plans, engine)


def _list(plans: list[Plan], folder: Path) -> None:
    for plan in plans:
        changes = "  ".join(f"{key}={value}" for key, value in plan.changes.items())
        typer.echo(f"{plan.config.run_dir}  {plan.source}  {changes}".rstrip())
    without = sum(not plan.config.checkpoint_every for plan in plans)
    jobs = counted(len(plans), "job", "jobs")
    typer.echo(f"{jobs}. The results will be written to {folder}.")
    if without:
        typer.echo(
            f"Warning: {without} of them do not set checkpoint_every. If such a job is "
            "killed, it starts again from step 0."
        )


def _report(jobs: list[Job], folder: Path) -> None:
    from rich.console import Console

    from ..jobs.report import write_report
    from ..jobs.tables import result_table

    results, page = write_report(folder, jobs, folder.name)
    console = Console()
    if not console.is_terminal:
        # Output to a file is not limited to the width of the terminal.
        console.width = _WIDE
    console.print(result_table(results), markup=False)
    for job in jobs:
        if job.message:
            typer.echo(f"{job.name}: {job.state.value}. {job.message}", err=True)
    typer.echo(f"Results: {page}")


def _code(jobs: list[Job]) -> int:
    from ..jobs.job import OVER, JobState

    if any(job.state not in OVER for job in jobs):
        typer.echo("Run the same command again to resume.", err=True)
        return INTERRUPTED
    return 0 if all(job.state is JobState.DONE for job in jobs) else FAILURE
