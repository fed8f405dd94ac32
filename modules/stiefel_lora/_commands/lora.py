"""``lora``: inspect and change LoRA files of any tool."""

from __future__ import annotations

import json
from enum import Enum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, overload

import typer

from .._exceptions import InputError
from ._shared import needed, unset, user_errors

if TYPE_CHECKING:
    from collections.abc import Sequence

    import torch

    from ..files import Check, LoraFile, Part, Saved

__all__ = [
    "AllowOption",
    "Dtype",
    "DtypeOption",
    "FileArgument",
    "JsonOption",
    "OutputOption",
    "OverwriteOption",
    "VerifyOption",
    "app",
    "check_known",
    "check_lines",
    "print_json",
    "print_saved",
    "torch_dtype",
]

app = typer.Typer(
    help="Inspect and edit LoRA files of any training tool and model family.",
    no_args_is_help=True,
    rich_markup_mode=None,
)

FileArgument = Annotated[Path, needed("FILE", "Path of the LoRA file.")]
AllowOption = Annotated[
    bool,
    typer.Option(
        "--allow-unknown", help="Ignore keys that are not part of an adapter."
    ),
]
OutputOption = Annotated[
    Path,
    unset("Path of the output file.", "--output", metavar="FILE"),
]
OverwriteOption = Annotated[
    bool, typer.Option("--overwrite", help="Overwrite an existing output file.")
]


class Dtype(str, Enum):
    """Dtypes of LoRA files."""

    float32 = "float32"
    float16 = "float16"
    bfloat16 = "bfloat16"


TotalErrorOption = Annotated[
    float | None,
    unset("Maximum relative error of the whole LoRA."),
]
SizeOption = Annotated[
    float | None,
    unset("Maximum file size in MB."),
]
DtypeOption = Annotated[
    Dtype | None,
    unset("Dtype of the saved tensors. The default is the widest dtype of the input."),
]


JsonOption = Annotated[
    bool,
    typer.Option("--json", help="Print only JSON."),
]
VerifyOption = Annotated[
    bool,
    typer.Option(
        "--verify/--no-verify",
        help="Load the output with the code of other programs and check the result.",
    ),
]


@app.callback()
def _lora() -> None:
    """Inspect and change LoRA files of every tool and family."""


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
    max_norm: Annotated[
        float | None,
        unset(
            "Maximum norm of the output. If the norm is larger, the LoRA is scaled "
            "down."
        ),
    ] = None,
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
        options = [
            text
            for name, value in vars(target).items()
            if value is not None
            for text in (f"--{name.replace('_', '-')}", value)
        ]
        report = resize_lora(
            given,
            output,
            target,
            dtype=torch_dtype(dtype),
            overwrite=overwrite,
            command=command_line("resize", file, *options),
        )
    if as_json:
        print_json(report.total_error, report.saved, verify)
        return
    if layers:
        for row in report.layers:
            typer.echo(f"{row.error:.3e}  {row.old_rank} -> {row.rank}  {row.name}")
    worst = max(report.layers, key=lambda row: row.error)
    typer.echo(
        f"Relative error: {report.total_error:.6g} in total, at most {worst.error:.6g} "
        f"({worst.name})."
    )
    before = sum(row.old_rank for row in report.layers)
    after = sum(row.rank for row in report.layers)
    typer.echo(f"Ranks: {before} -> {after} over {len(report.layers)} layers.")
    print_saved(report.saved, verify)


class MethodName(str, Enum):
    """Merge methods."""

    sum = "sum"
    norm = "norm"
    ties = "ties"
    dare = "dare"
    magnitude = "magnitude"


@app.command()
def merge(
    files: Annotated[
        list[str],
        needed(
            "FILE[:WEIGHT]...",
            "LoRA files to merge, each with an optional weight. The default weight "
            "is 1.",
        ),
    ],
    output: OutputOption,
    section: Annotated[
        list[str] | None,
        unset(
            "Multiplier for the layers of a file that match a pattern, e.g. "
            "--section 1:down_blocks.*=0.5. Files are numbered from 1. Can be "
            "repeated.",
            metavar="FILE:PATTERN=FACTOR",
        ),
    ] = None,
    into: Annotated[
        Path | None,
        unset(
            "Merge into this checkpoint or diffusers folder. The output is then a "
            "model, too.",
            metavar="PATH",
        ),
    ] = None,
    method: Annotated[
        MethodName,
        typer.Option(
            help="Merge method. The method norm scales the sum to the mean norm of "
            "its parts."
        ),
    ] = MethodName.sum,
    density: Annotated[
        float,
        typer.Option(
            help="Fraction of the entries that ties, dare and magnitude keep."
        ),
    ] = 0.5,
    seed: Annotated[int, typer.Option(help="Random seed for the method dare.")] = 0,
    rank: Annotated[
        int | None,
        unset("Maximum rank of the output."),
    ] = None,
    error: Annotated[
        float | None,
        unset("Maximum relative error per layer."),
    ] = None,
    total_error: TotalErrorOption = None,
    size: SizeOption = None,
    max_norm: Annotated[
        float | None,
        unset(
            "Maximum norm of the output. If the norm is larger, the sum is scaled down."
        ),
    ] = None,
    dtype: DtypeOption = None,
    as_json: JsonOption = False,
    overwrite: OverwriteOption = False,
    allow_unknown: AllowOption = False,
    verify: VerifyOption = True,
) -> None:
    """Merge LoRAs as a weighted sum.

    The sum is exact and the ranks add up unless the rank, error or size is limited.
    """
    with user_errors():
        from ..files import Method, Part, Target, merge_lora, open_lora
        from ..files.tools.merging import parse_part, parse_section
        from ..files.tools.save_lora import command_line

        named = [parse_part(text) for text in files]
        way = Method(method.value, density, seed)
        factors: list[dict[str, float]] = [{} for _ in named]
        for text in section or ():
            place, pattern, factor = parse_section(text, len(named))
            factors[place][pattern] = factor
        goals = {
            "rank": rank,
            "error": error,
            "total_error": total_error,
            "size": size,
            "max_norm": max_norm,
        }
        goals = {name: value for name, value in goals.items() if value is not None}
        target = None
        if goals:
            target = Target(rank, error, total_error, None, size, None, max_norm)
        parts = []
        for (path, weight), own in zip(named, factors, strict=True):
            given = open_lora(path)
            check_known(path, given, allow_unknown)
            parts.append(Part(given, weight, own))
        options = [f"{path.name}:{weight:g}" for path, weight in named]
        options += [f"--section={text}" for text in section or ()]
        options += [f"--{k.replace('_', '-')}={v}" for k, v in goals.items()]
        if method is not MethodName.sum:
            options += [f"--method={way.name}", f"--density={density}"]
            options += [f"--seed={seed}"]
        written = command_line("merge", *options)
        if into is not None:
            if goals or way.name != "sum":
                raise InputError(
                    "--into: the sum must be exact. Remove the other options."
                )
            _merge_into(parts, into, output, overwrite, written)
            return
        report = merge_lora(
            parts,
            output,
            target,
            method=way,
            dtype=torch_dtype(dtype),
            overwrite=overwrite,
            command=written,
        )
        # Free their memory for the check.
        parts.clear()
        del given
    if as_json:
        print_json(report.error, report.saved, verify)
        return
    norms = " and ".join(f"{norm:.4g}" for norm in report.norms)
    typer.echo(f"Norm of the sum: {report.norm:.4g}. Norms of its parts: {norms}.")
    typer.echo(f"Relative error of the stored sum: {report.error:.6g}.")
    print_saved(report.saved, verify)


def _merge_into(
    parts: list[Part], into: Path, output: Path, overwrite: bool, command: str
) -> None:
    from ..files import Checkpoint, add_into_checkpoint
    from ..files.tools.merging import merged

    base = Checkpoint(into)
    # A single file may also be a DoRA.
    alone = len(parts) == 1 and parts[0].weight == 1 and not parts[0].sections
    file = parts[0].file if alone else merged(parts)
    report = add_into_checkpoint(
        file,
        base,
        output,
        parents=[part.file for part in parts],
        overwrite=overwrite,
        command=f"{command} --into {into.name}",
    )
    typer.echo(
        f"{output}: {report.layers} weights of {base.family} were changed. Relative "
        f"rounding error of the change: {report.error:.1e}."
    )


@overload
def torch_dtype(dtype: Dtype) -> torch.dtype: ...
@overload
def torch_dtype(dtype: Dtype | None) -> torch.dtype | None: ...
def torch_dtype(dtype: Dtype | None) -> torch.dtype | None:
    """Return the torch dtype."""
    import torch

    return None if dtype is None else getattr(torch, dtype.value)


def print_saved(saved: Saved, verify: bool) -> None:
    """Print remarks, size, rounding error and the checks of other programs."""
    file = saved.file
    for remark in saved.remarks:
        typer.echo(remark, err=True)
    if file.others:
        typer.echo(
            f"{len(file.others)} adapters of other kinds are unchanged.", err=True
        )
    typer.echo(
        f"{file.path}: {file.size / 1e6:.2f} MB. Maximum rounding error of a layer: "
        f"{saved.deviation:.1e}."
    )
    for line in _checks(file) if verify else ():
        typer.echo(line)


def _checks(file: LoraFile) -> list[str]:
    from ..files import verify_lora

    return check_lines(verify_lora(file))


def check_lines(checks: Sequence[Check]) -> list[str]:
    """One line of text for each program."""
    return [check.summary() for check in checks]


def print_json(error: float, saved: Saved, verify: bool) -> None:
    """Print error, size, deviation, remarks and checks of a result."""
    found = {
        "error": error,
        "size": saved.file.size,
        "deviation": saved.deviation,
        "remarks": list(saved.remarks),
        "checks": _checks(saved.file) if verify else [],
    }
    typer.echo(json.dumps(found, indent=1))


def check_known(path: Path, file: LoraFile, allow: bool) -> None:
    """Raise for a file with unknown keys, and name some of them."""
    if file.unknown and not allow:
        names = sorted(file.unknown)
        more = f" and {len(names) - 3} more" if len(names) > 3 else ""
        raise InputError(
            f"{path}: {len(names)} keys are not part of an adapter: "
            f"{', '.join(names[:3])}{more}. Add --allow-unknown to ignore them."
        )
