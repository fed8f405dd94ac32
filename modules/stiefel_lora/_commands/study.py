"""Command ``study``: compare optimizers."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from ._shared import (
    FAILURE,
    INTERRUPTED,
    ConfigArgument,
    PluginOption,
    SetOption,
    user_errors,
)
from .batch import DevicesOption, JobsOption

if TYPE_CHECKING:
    from ..jobs.study_runs import Study

__all__ = ["study"]


def study(
    config: ConfigArgument,
    optimizers: Annotated[
        str,
        typer.Option(
            metavar="A,B,...",
            help="Optimizers to compare. The first one is the baseline.",
        ),
    ] = "adamw,stiefel_lora",
    rates: Annotated[
        str,
        typer.Option(
            metavar="auto|R1,R2,...",
            help="Learning rates to try for every optimizer. With auto, five "
            "learning rates around the usual one of the optimizer are tried, "
            "and more as long as the best one is the lowest or highest.",
        ),
    ] = "auto",
    seeds: Annotated[
        int,
        typer.Option(
            min=1,
            max=10,
            help="Number of runs of each optimizer at its best learning rate.",
        ),
    ] = 3,
    overrides: SetOption = None,
    jobs: JobsOption = None,
    devices: DevicesOption = None,
    folder: Annotated[
        Path | None,
        typer.Option(
            metavar="DIR",
            help="Folder for the table, the HTML page and the logs. By default, a "
            "folder next to the run folders is used. It is the same each time a "
            "command is repeated.",
            show_default=False,
        ),
    ] = None,
    dry_run: Annotated[
        bool,
        typer.Option("--dry-run", help="List the first runs without starting them."),
    ] = False,
    plugins: PluginOption = None,
) -> None:
    """Compare optimizers on your images over several learning rates and seeds."""
    with user_errors():
        from ..jobs.slots import parse_slots
        from ..jobs.study_runs import make_study

        slots = parse_slots(jobs, devices)
        found = make_study(
            config, optimizers, rates, seeds, overrides or (), plugins or ()
        )
        folder = folder or found.folder
        for remark in found.remarks:
            typer.echo(f"Remark: {remark}", err=True)
        if dry_run:
            _list(found, folder)
            return
        raise typer.Exit(_run(found, folder, slots))


def _list(found: Study, folder: Path) -> None:
    contests = found.comparison.wanted({})
    for contest in contests:
        typer.echo(found.plan(contest).config.run_dir)
    more = (len(found.comparison.seeds) - 1) * len(found.comparison.usual)
    typer.echo(
        f"{len(contests)} runs compare learning rates, then {more} runs use other "
        f"seeds. The results will be written to {folder}."
    )


def _run(found: Study, folder: Path, slots: list[str]) -> int:
    from ..files.atomic import atomic_write
    from ..jobs.comparison_table import as_json, markdown, rows_of
    from ..jobs.report import write_report

    outcome = found.run(folder, slots)
    rows = rows_of(found.comparison, outcome.known)
    text = markdown(rows)
    _, page = write_report(folder, outcome.jobs, folder.name)
    for name, content in (
        ("study.md", text),
        ("study.json", json.dumps(as_json(rows), indent=1) + "\n"),
    ):
        with atomic_write(folder / name) as part:
            part.write_text(content, "utf-8")
    typer.echo(text)
    typer.echo(f"Table: {folder / 'study.md'}. HTML page of all runs: {page}")
    for job in outcome.failed:
        typer.echo(f"{job.name}: {job.state.value}. {job.message}", err=True)
    if outcome.interrupted:
        typer.echo("Run the same command again to resume the study.", err=True)
        return INTERRUPTED
    return FAILURE if outcome.failed else 0
