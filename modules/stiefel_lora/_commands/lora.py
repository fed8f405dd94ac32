"""``lora``: look into LoRA files of any tool and change them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from .._exceptions import InputError
from ._shared import sentences

if TYPE_CHECKING:
    from ..files import LoraFile, LoraReport

__all__ = ["app"]

app = typer.Typer(
    help="Inspect LoRA files of every tool and family.",
    no_args_is_help=True,
    rich_markup_mode=None,
)

_WIDE = 240

FileArgument = Annotated[
    Path, typer.Argument(metavar="FILE", help="A LoRA file.", show_default=False)
]
FilesArgument = Annotated[
    list[Path],
    typer.Argument(metavar="FILE...", help="LoRA files.", show_default=False),
]
AllowOption = Annotated[
    bool,
    typer.Option("--allow-unknown", help="Accept keys that belong to no adapter."),
]


@app.callback()
def _lora() -> None:
    """Inspect LoRA files of every tool and family."""


@app.command()
def inspect(
    files: FilesArgument,
    layers: Annotated[
        bool, typer.Option("--layers", help="One row for each layer.")
    ] = False,
    as_json: Annotated[
        bool, typer.Option("--json", help="Print all numbers as JSON.")
    ] = False,
    allow_unknown: AllowOption = False,
) -> None:
    """Show family, spelling, ranks, norms and faults; several files side by side."""
    with sentences():
        from ..files import inspect_lora, open_lora

        reports = [inspect_lora(open_lora(path)) for path in files]
        if as_json:
            found = [report.to_json() for report in reports]
            typer.echo(json.dumps(found[0] if len(found) == 1 else found, indent=1))
        else:
            _print(reports, layers)
        for report in reports:
            _check_finite(report)
        for path, report in zip(files, reports, strict=True):
            check_known(path, report.file, allow_unknown)


def check_known(path: Path, file: LoraFile, allow: bool) -> None:
    """Refuse a file with unknown keys, after naming some of them."""
    if file.unknown and not allow:
        names = sorted(file.unknown)
        more = f" and {len(names) - 3} more" if len(names) > 3 else ""
        raise InputError(
            f"{path}: {len(names)} keys belong to no adapter: {', '.join(names[:3])}"
            f"{more}. Add --allow-unknown to leave them aside."
        )


def _check_finite(report: LoraReport) -> None:
    broken = [layer.name for layer in report.layers if not layer.is_finite]
    if broken:
        more = f" and {len(broken) - 3} more" if len(broken) > 3 else ""
        raise InputError(
            f"{report.file.path}: NaN or infinity in {', '.join(broken[:3])}{more}. "
            "Use an earlier file of the training."
        )


def _print(reports: list[LoraReport], layers: bool) -> None:
    from rich.console import Console

    from ..files.tools.inspection_tables import inspection_tables

    console = Console()
    if not console.is_terminal:
        # A file has no edge that the table would have to fit in.
        console.width = _WIDE
    for part in inspection_tables(reports, layers=layers):
        console.print(part, markup=False, highlight=False)
