"""Command ``runs``: list, show, plot, compare and clean trainings."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from ._shared import WholeSummaries, echo, needed, unset, user_errors

if TYPE_CHECKING:
    from collections.abc import Sequence

    from ..runs.run_summary import RunSummary

__all__ = ["app"]

app = typer.Typer(
    cls=WholeSummaries,
    help="List, plot, compare and clean up trainings.",
    no_args_is_help=True,
    rich_markup_mode=None,
)

RunsArgument = Annotated[list[Path], needed("RUN...", "Run folders.")]
FolderArgument = Annotated[
    Path,
    typer.Argument(metavar="[FOLDER]", help="Folder of the runs (output_dir)."),
]
# Width of tables in a file or pipe, where lines are not wrapped.
_FILE_WIDTH = 1000


@app.command("list")
def list_runs(
    folder: FolderArgument = Path("runs"),
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """List the runs of a folder with their settings and results."""
    with user_errors():
        from ..runs.run_summary import find_runs, read_run

        found = [read_run(path) for path in find_runs(folder)]
        if as_json:
            typer.echo(json.dumps([_facts(run) for run in found], indent=2))
        elif not found:
            echo(f"There are no runs in {folder}.")
        else:
            _print_table([_row(run) for run in found])


@app.command()
def show(
    run: Annotated[Path, needed("RUN", "Run folder.")],
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """Show what a run trained, with which settings, and how it ended."""
    with user_errors():
        from ..runs.run_summary import read_run

        facts = _facts(read_run(run))
        if as_json:
            typer.echo(json.dumps(facts, indent=2))
            return
        for key, value in facts.items():
            items = value if isinstance(value, list) else [value]
            for number, item in enumerate(items):
                echo(f"{key if number == 0 else '':18} {_text(item)}".rstrip())


@app.command()
def plot(
    runs: RunsArgument,
    output: Annotated[
        Path | None,
        unset(
            "File (.png, .svg or .html). The default is plot.png in the run folder, "
            "and runs.png in the current folder for several runs.",
            metavar="FILE",
        ),
    ] = None,
) -> None:
    """Plot losses, effective ranks and the spectrum of runs."""
    with user_errors():
        from ..runs.run_figure import write_figure
        from ..runs.run_summary import read_run

        alone = runs[0] / "plot.png" if len(runs) == 1 else Path("runs.png")
        path = output or alone
        write_figure(path, [read_run(run) for run in runs])
        echo(str(path))


@app.command()
def compare(
    runs: RunsArgument,
    output: Annotated[
        Path | None,
        unset("Also write a page with plots (.html).", metavar="FILE"),
    ] = None,
) -> None:
    """Compare the settings and results of two or more runs."""
    with user_errors():
        from .._exceptions import InputError
        from ..runs.run_summary import read_run

        if len(runs) < 2:
            raise InputError("RUN: a comparison needs at least two run folders.")
        if output is not None and output.suffix.lower() != ".html":
            raise InputError(f"--output {output}: the suffix must be .html.")
        found = [read_run(run) for run in runs]
        rows = _comparison(found)
        _print_table(rows)
        if output is not None:
            from ..runs.run_figure import write_figure

            write_figure(output, found, _html_table(rows))
            echo(str(output))


@app.command()
def clean(
    places: Annotated[
        list[Path], needed("RUN|FOLDER...", "Run folders, or folders of runs.")
    ],
    checkpoints: Annotated[
        bool,
        typer.Option(
            "--checkpoints",
            help="Include all checkpoints of finished runs. They cannot be resumed "
            "afterwards.",
        ),
    ] = False,
    empty: Annotated[
        bool,
        typer.Option(
            "--empty", help="Include runs that ended without checkpoint and LoRA file."
        ),
    ] = False,
    yes: Annotated[
        bool,
        typer.Option(
            "--yes", help="Delete. Without this option, they are only listed."
        ),
    ] = False,
) -> None:
    """List or delete abandoned branches of runs, and other files on request."""
    with user_errors():
        from .._exceptions import OutputError
        from ..runs.remains import remains_of, remove
        from ..runs.run_summary import find_runs, read_run

        total, failed = 0, []
        for path in dict.fromkeys(run for place in places for run in find_runs(place)):
            run = read_run(path)
            if run.running:
                echo(f"{path}: skipped, because it is running.")
            found = remains_of(run, checkpoints=checkpoints, empty=empty)
            for item in found:
                if item.kept:
                    echo(f"{item.path}: kept, because it {item.reason}.")
                else:
                    echo(f"{item.path}  {_size(item.size)}  ({item.reason})")
                    total += item.size
            if yes and found:
                try:
                    remove(run, found)
                except OutputError as error:
                    failed.append(str(error))
        word = "Deleted" if yes else "Add --yes to delete"
        if failed:
            raise OutputError("\n".join(failed))
        echo(f"{word}: {_size(total)}." if total else "There is nothing to delete.")


# Rows ---------------------------------------------------------------------------------


def _row(run: RunSummary) -> dict[str, str]:
    config = run.config
    optimizer = config.get("optimizer") or {}
    began = run.began
    return {
        "run": run.name,
        "began": f"{began:%Y-%m-%d %H:%M}" if began else "",
        "model": str(config.get("model_type", "")),
        "optimizer": str(optimizer.get("name", "")),
        "rank": str(config.get("lora_rank", "")),
        "step": f"{run.step}/{config.get('steps', '?')}",
        **{name: _text(value) for name, value in run.figures().items()},
        "state": run.state.partition(":")[0],
    }


def _facts(run: RunSummary) -> dict[str, Any]:
    """Return everything that ``show`` prints, by name."""
    from ..runs.events import IMAGE_COUNT

    config = run.config
    concepts = config.get("concepts") or []
    start = next((e["values"] for e in run.events if e["type"] == "start"), {})
    checkpoints = sorted(
        run.folder.checkpoints.glob("step-*"), key=lambda p: (len(p.name), p.name)
    )
    return {
        **_row(run),
        "state": run.state,
        "folder": str(run.folder.root),
        "duration": f"{run.seconds:.0f} s",
        "base model": config.get("base_model_name"),
        "images": start.get(IMAGE_COUNT),
        "processes": start.get("processes", 1),
        "concepts": [c.get("path") for c in concepts if isinstance(c, dict)],
        "learning rate": config.get("learning_rate"),
        "batch size": config.get("batch_size"),
        "resolution": config.get("resolution"),
        "seed": config.get("seed"),
        "resumed at step": [e["step"] for e in run.events if e["type"] == "resume"],
        "checkpoints": [path.name for path in checkpoints],
        "LoRA files": [path.name for path in run.files],
        **run.figures(),
    }


def _comparison(runs: Sequence[RunSummary]) -> list[dict[str, str]]:
    """Return a row per setting that differs, and per result, with a column per run."""
    from ..config.dump import flat
    from ..jobs.setting_differences import different_keys
    from ..jobs.tables import shown

    names = [run.name for run in runs]
    # Two folders may have the same name.
    heads = (
        names if len(set(names)) == len(names) else [str(r.folder.root) for r in runs]
    )
    settings = [flat(run.config) for run in runs]
    rows: dict[str, list[str]] = {
        key: [shown(values.get(key)) for values in settings]
        for key in different_keys([run.config for run in runs])
    }
    rows |= {
        name: [_text(run.figures()[name]) for run in runs] for name in runs[0].figures()
    }
    rows["step"] = [str(run.step) for run in runs]
    rows["duration"] = [f"{run.seconds:.0f} s" for run in runs]
    rows["state"] = [run.state for run in runs]
    return [
        {"": key, **dict(zip(heads, values, strict=True))}
        for key, values in rows.items()
    ]


def _print_table(rows: Sequence[dict[str, str]]) -> None:
    from rich.console import Console
    from rich.table import Table

    table = Table(*rows[0], box=None)
    for column in table.columns:
        # Names must not be truncated: they differ in their suffixes.
        column.overflow = "fold"
    for row in rows:
        table.add_row(*row.values())
    console = Console()
    width = None if console.is_terminal else _FILE_WIDTH
    Console(width=width, markup=False, highlight=False).print(table)


def _html_table(rows: Sequence[dict[str, str]]) -> str:
    from html import escape

    lines = [
        "<tr>" + "".join(f"<td>{escape(cell)}</td>" for cell in cells) + "</tr>"
        for cells in ([*rows[0]], *([*row.values()] for row in rows))
    ]
    return "<table cellpadding=4>" + "\n".join(lines) + "</table>"


def _text(value: object) -> str:
    if value is None:
        return "not measured"
    return f"{value:.4g}" if isinstance(value, float) else str(value)


def _size(count: int) -> str:
    return f"{count / 1e6:.1f} MB" if count < 1e9 else f"{count / 1e9:.1f} GB"
