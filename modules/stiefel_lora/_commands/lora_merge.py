"""Command ``lora merge``."""

from __future__ import annotations

import json
from enum import Enum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from .._exceptions import InputError
from .._weighted_path import parse_part
from .._wording import counted
from ._shared import echo, needed, unset, user_errors
from .lora import app, check_known, print_result
from .lora_options import (
    AllowOption,
    DtypeOption,
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
    from ..files import Method, Part

__all__: list[str] = []


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
            "Multiplier for the sections of a file that match a pattern, e.g. "
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
            "its parts.",
            case_sensitive=False,
        ),
    ] = MethodName.sum,
    density: Annotated[
        float | None,
        unset(
            "Fraction of the entries that ties, dare and magnitude keep. The default "
            "is 0.5."
        ),
    ] = None,
    seed: Annotated[
        int | None, unset("Random seed for the method dare. The default is 0.")
    ] = None,
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
    max_norm: MaxNormOption = None,
    dtype: DtypeOption = None,
    as_json: JsonOption = False,
    overwrite: OverwriteOption = False,
    allow_unknown: AllowOption = False,
    verify: VerifyOption = True,
) -> None:
    """Merge LoRAs as a weighted sum.

    The sum is exact, and its rank is the sum of the ranks, unless the rank, error or
    size is limited.
    """
    with user_errors():
        from ..files import Part, Target, merge_lora, open_lora
        from ..files.tools.save_lora import command_line
        from ..files.tools.sections import parse_sections

        named = [parse_part(text) for text in files]
        way = _method(method.value, density, seed)
        factors = parse_sections(section or (), len(named))
        goals = {
            "rank": rank,
            "error": error,
            "total_error": total_error,
            "size": size,
            "max_norm": max_norm,
        }
        given = [name for name, value in goals.items() if value is not None]
        target = Target(**goals) if given else None
        special = {"method": None if way.name == "sum" else way.name}
        special |= {"density": density, "seed": seed}
        used = [name for name, value in special.items() if value is not None]
        if into is not None:
            _check_exact([*used[:1], *given, *(["dtype"] if dtype else [])])
        parts = []
        for (path, weight), own in zip(named, factors, strict=True):
            file = open_lora(path)
            check_known(path, file, allow_unknown)
            parts.append(Part(file, weight, own))
        written = command_line(
            "merge",
            *(f"{path.name}:{weight:g}" for path, weight in named),
            section=section,
            **goals,
            **special,
            dtype=dtype,
            into=into,
        )
        if into is not None:
            _merge_into(parts, into, output, overwrite, written, as_json)
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
        del file
    norms = " and ".join(f"{norm:.4g}" for norm in report.norms)
    lines = (
        f"Norm of the sum: {report.norm:.4g}. Norms of its parts: {norms}.",
        f"Relative error of the stored sum: {report.error:.6g}.",
    )
    print_result(report.saved, report.error, lines, as_json, verify)


def _method(name: str, density: float | None, seed: int | None) -> Method:
    """Create the merge method. Raise an error for options that it does not use."""
    from ..files import Method

    for option, value, users in (
        ("--density", density, ("ties", "dare", "magnitude")),
        ("--seed", seed, ("dare",)),
    ):
        if value is not None and name not in users:
            raise InputError(
                f"{option}: the method {name} does not use it. Remove {option}, or "
                f"use it with {', '.join(users)}."
            )
    share = Method.density if density is None else density
    return Method(name, share, Method.seed if seed is None else seed)


def _check_exact(options: list[str]) -> None:
    """Raise an error for options that are not supported with ``--into``."""
    if options:
        names = ", ".join(f"--{name.replace('_', '-')}" for name in options)
        raise InputError(
            f"{names}: not supported with --into, which adds the exact sum to weights "
            f"that keep their dtype. Remove {names}."
        )


def _merge_into(
    parts: list[Part],
    into: Path,
    output: Path,
    overwrite: bool,
    command: str,
    as_json: bool,
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
        command=command,
    )
    if as_json:
        found = {"layers": report.layers, "error": report.error}
        found |= {"path": str(report.path), "remarks": list(report.remarks)}
        echo(json.dumps(found, indent=1))
        return
    for remark in report.remarks:
        echo(remark, err=True)
    echo(
        f"{report.path}: {counted(report.layers, 'weight', 'weights')} of "
        f"{base.family} changed. "
        f"Relative rounding error of the change: {report.error:.1e}."
    )
