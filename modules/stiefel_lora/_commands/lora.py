"""Command ``lora``: inspect and edit LoRA files."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from .._exceptions import InputError
from .._wording import counted
from ..families.catalogue import listed
from ._shared import WholeSummaries, echo, unset, user_errors
from .lora_options import (
    AllowOption,
    DtypeOption,
    FileArgument,
    JsonOption,
    MaxNormOption,
    OutputOption,
    OverwriteOption,
    SizeOption,
    TotalErrorOption,
    VerifyOption,
    torch_dtype,
)

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from ..files import Check, LoraFile, Saved

__all__ = [
    "app",
    "check_known",
    "check_lines",
    "print_result",
    "verdict",
]

app = typer.Typer(
    cls=WholeSummaries,
    help="Inspect and edit LoRA files of any training tool and model family.",
    no_args_is_help=True,
    rich_markup_mode=None,
)


@app.callback()
def _lora() -> None:
    """Inspect and edit LoRA files of any training tool and model family."""


@app.command()
def resize(
    file: FileArgument,
    output: OutputOption,
    rank: Annotated[
        int | None,
        unset(
            "Rank of the output. If a size or error limit is also given, this is "
            "the maximum rank."
        ),
    ] = None,
    error: Annotated[
        float | None,
        unset("Maximum relative error per layer, e.g. 0.1."),
    ] = None,
    total_error: TotalErrorOption = None,
    energy: Annotated[
        float | None,
        unset("Fraction of the squared singular values to keep, e.g. 0.95."),
    ] = None,
    size: SizeOption = None,
    max_sigma: Annotated[
        float | None,
        unset("Clamp singular values to this maximum."),
    ] = None,
    max_norm: MaxNormOption = None,
    dtype: DtypeOption = None,
    layers: Annotated[
        bool, typer.Option("--layers", help="Print the rank and error of each layer.")
    ] = False,
    as_json: JsonOption = False,
    overwrite: OverwriteOption = False,
    allow_unknown: AllowOption = False,
    verify: VerifyOption = True,
) -> None:
    """Reduce the rank of a LoRA with the smallest possible error."""
    with user_errors():
        from ..files import Target, open_lora, resize_lora
        from ..files.tools.save_lora import command_line

        target = Target(rank, error, total_error, energy, size, max_sigma, max_norm)
        given = open_lora(file)
        check_known(file, given, allow_unknown)
        report = resize_lora(
            given,
            output,
            target,
            dtype=torch_dtype(dtype),
            overwrite=overwrite,
            command=command_line("resize", file, **vars(target), dtype=dtype),
        )
    rows = report.layers
    worst = max(rows, key=lambda row: row.error)
    before, after = sum(row.old_rank for row in rows), sum(row.rank for row in rows)
    lines = [
        f"Relative error: {report.total_error:.6g} in total, at most {worst.error:.6g} "
        f"({worst.name}).",
        f"Ranks: {before} -> {after} over {counted(len(rows), 'layer', 'layers')}.",
    ]
    if layers:
        each = (f"{x.error:.3e}  {x.old_rank} -> {x.rank}  {x.name}" for x in rows)
        lines = [*each, *lines]
    print_result(report.saved, report.total_error, lines, as_json, verify)


def print_result(
    saved: Saved, error: float, lines: Iterable[str], as_json: bool, verify: bool
) -> None:
    """Print information about a written LoRA file.

    Args:
        saved: written file.
        error: relative error, for JSON.
        lines: text of the command, which is printed first and is not part of the JSON.
        as_json: whether to print JSON only.
        verify: whether to check that other programs can load the file.
    """
    file = saved.file
    if as_json:
        found = {
            "error": error,
            "size": file.size,
            "deviation": saved.deviation,
            "remarks": list(saved.remarks),
            "checks": check_lines(_checks(file)) if verify else [],
        }
        echo(json.dumps(found, indent=1))
        return
    for line in lines:
        echo(line)
    for remark in saved.remarks:
        echo(remark, err=True)
    if file.others:
        count = len(file.others)
        several = "adapters of other kinds are" if count > 1 else "other adapter is"
        echo(f"{count} {several} unchanged.", err=True)
    echo(
        f"{file.path}: {file.size / 1e6:.2f} MB. Maximum rounding error of a layer: "
        f"{saved.deviation:.1e}."
    )
    checks = _checks(file) if verify else []
    for line in check_lines(checks):
        echo(line)
    if text := verdict(checks):
        echo(text, err=True)


def _checks(file: LoraFile) -> Sequence[Check]:
    from ..files import verify_lora

    with user_errors():
        return verify_lora(file)


def check_lines(checks: Sequence[Check]) -> list[str]:
    """Return a line of text for each program."""
    return [check.summary() for check in checks]


def verdict(checks: Sequence[Check]) -> str:
    """Return the programs in which a file works, or "" if it works in all of them."""
    right = [check.program for check in checks if check.is_right]
    wrong = [check.program for check in checks if not check.is_right]
    if not wrong:
        return ""
    if right:
        return (
            f"The file works in {listed(right, 'and')}, but not completely in "
            f"{listed(wrong)}."
        )
    return (
        f"The file does not work completely in {listed(wrong)}. If it is for one of "
        "them, convert it to kohya or peft."
    )


def check_known(path: Path, file: LoraFile, allow: bool) -> None:
    """Raise an error if a file has unknown keys, unless they are allowed."""
    if file.unknown and not allow:
        text = file.unknown_text
        raise InputError(f"{path}: {text} Add --allow-unknown to ignore them.")
