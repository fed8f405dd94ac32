"""Command ``lora inspect``."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

from .._exceptions import InputError
from ._shared import echo, needed, unset, user_errors
from .lora import app, check_known
from .lora_options import AllowOption, LayersOption, NumbersOption, OverwriteOption

if TYPE_CHECKING:
    from ..files import LoraReport

__all__: list[str] = []

_WIDE = 240

FilesArgument = Annotated[
    list[Path],
    needed("FILE...", "Paths of the LoRA files."),
]


@app.command()
def inspect(
    files: FilesArgument,
    layers: LayersOption = False,
    as_json: NumbersOption = False,
    page: Annotated[
        Path | None,
        unset(
            "Write an HTML page with the singular values of all layers.",
            "--html",
            metavar="FILE",
        ),
    ] = None,
    overwrite: OverwriteOption = False,
    allow_unknown: AllowOption = False,
) -> None:
    """Show the model family, key format, ranks, norms and defects of LoRA files."""
    with user_errors():
        reports, errors = _opened(files)
        if errors and (as_json or not reports):
            raise errors[0]
        if as_json:
            found = [report.to_json() for report in reports]
            echo(json.dumps(found[0] if len(found) == 1 else found, indent=1))
        else:
            _print(reports, layers)
        if page is not None:
            _write_page(page, reports, overwrite)
        _raise_all(errors + _file_errors(reports, allow_unknown))


def _opened(files: list[Path]) -> tuple[list[LoraReport], list[InputError]]:
    """Inspect all files that can be opened. Return the errors of other files."""
    from ..files import inspect_lora, open_lora

    reports: list[LoraReport] = []
    errors: list[InputError] = []
    for path in files:
        try:
            reports.append(inspect_lora(open_lora(path)))
        except InputError as error:
            errors.append(error)
    return reports, errors


def _file_errors(reports: list[LoraReport], allow_unknown: bool) -> list[InputError]:
    from ..files.tools.finite_layers import check_finite

    errors: list[InputError] = []
    for report in reports:
        try:
            check_finite(report.file)
            check_known(report.file.path, report.file, allow_unknown)
        except InputError as error:
            errors.append(error)
    return errors


def _raise_all(errors: list[InputError]) -> None:
    """Print all errors except for the last one, which is raised."""
    for error in errors[:-1]:
        echo(str(error), err=True)
    if errors:
        raise errors[-1]


def _write_page(page: Path, reports: list[LoraReport], overwrite: bool) -> None:
    from ..files.atomic import atomic_write
    from ..files.tools.inspection_page import inspection_page
    from ..files.tools.output_path import check_output
    from ..files.tools.save_lora import Lineage

    inputs = Lineage([report.file for report in reports], "").inputs
    place = check_output(
        page, inputs, overwrite=overwrite, option="--html", suffix=".html"
    )
    for remark in place.remarks:
        echo(remark, err=True)
    text = inspection_page(reports)
    with atomic_write(place.path, overwrite=overwrite) as part:
        # File names may contain bytes that are not text.
        part.write_text(text, "utf-8", "backslashreplace")
    echo(f"{place.path}: {len(text) / 1e6:.2f} MB", err=True)


def _print(reports: list[LoraReport], layers: bool) -> None:
    from rich.console import Console

    from ..files.tools.inspection_tables import inspection_tables

    console = Console()
    if not console.is_terminal:
        # Output to a file is not limited to the width of the terminal.
        console.width = _WIDE
    for part in inspection_tables(reports, layers=layers):
        console.print(part, markup=False, highlight=False)
