"""Commands ``lora extract`` and ``lora overlap``."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated

import typer

from .._exceptions import InputError
from .._wording import counted
from ._shared import echo, needed, unset, user_errors
from .lora import app, check_known, print_result
from .lora_convert import SpellingName, spelling_of
from .lora_options import (
    AllowOption,
    Dtype,
    JsonOption,
    LayersOption,
    NumbersOption,
    OutputOption,
    OverwriteOption,
    VerifyOption,
    torch_dtype,
)

__all__: list[str] = []


@app.command()
def extract(
    base: Annotated[
        Path,
        needed("BASE", "Checkpoint before training, as a file or a diffusers folder."),
    ],
    tuned: Annotated[
        Path,
        needed("TUNED", "Checkpoint after training."),
    ],
    output: OutputOption,
    rank: Annotated[int | None, unset("Rank of every layer.")] = None,
    error: Annotated[
        float | None,
        unset(
            "Maximum relative error of each layer. If --rank is also given, it "
            "limits the rank."
        ),
    ] = None,
    exact: Annotated[
        bool,
        typer.Option(
            "--exact", help="Compute the full SVD instead of a randomized SVD."
        ),
    ] = False,
    to: Annotated[
        SpellingName,
        typer.Option("--to", help="Key format of the output.", case_sensitive=False),
    ] = SpellingName.kohya,
    dtype: Annotated[
        Dtype, typer.Option(help="Dtype of the saved tensors.", case_sensitive=False)
    ] = Dtype.float16,
    as_json: JsonOption = False,
    overwrite: OverwriteOption = False,
    verify: VerifyOption = True,
) -> None:
    """Extract the difference between two checkpoints as a LoRA."""
    with user_errors():
        from ..files import Checkpoint, Rank, extract_lora
        from ..files.tools.save_lora import command_line

        goal = Rank(rank, error, exact)
        options = {"rank": rank, "error": error, "exact": exact, "to": to}
        report = extract_lora(
            Checkpoint(base),
            Checkpoint(tuned),
            output,
            goal,
            spelling=spelling_of(to),
            dtype=torch_dtype(dtype),
            overwrite=overwrite,
            command=command_line("extract", base, tuned, **options, dtype=dtype),
        )
    lines = [
        f"Relative error: {report.error:.6g} over "
        f"{counted(len(report.saved.file.layers), 'layer', 'layers')}. Norm of the "
        f"difference: {report.norm:.4g}. "
        f"{counted(report.equal, 'layer does', 'layers do')} not differ."
    ]
    if report.others and not as_json:
        echo(
            f"{len(report.others)} other tensors also differ (biases, norms, ...) and "
            f"are not in the LoRA, for example {report.others[0]}.",
            err=True,
        )
    print_result(report.saved, report.error, lines, as_json, verify)


@app.command()
def overlap(
    one: Annotated[Path, needed("A", "First LoRA file.")],
    two: Annotated[Path, needed("B", "Second LoRA file.")],
    layers: LayersOption = False,
    as_json: NumbersOption = False,
    allow_unknown: AllowOption = False,
) -> None:
    """Compare the norms, the cosine similarity and the directions of two LoRAs."""
    with user_errors():
        from ..files import open_lora
        from ..files import overlap as compare

        files = [open_lora(path) for path in (one, two)]
        for path, file in zip((one, two), files, strict=True):
            check_known(path, file, allow_unknown)
        report = compare(*files)
        if not report.layers:
            raise InputError(f"{one} and {two} have no layer in common.")
    if as_json:
        echo(json.dumps(report.to_json(), indent=1))
        return
    rows = report.layers if layers else (*report.sections.values(), report.total)
    echo(
        "     norm A      norm B  norm A+B   cosine (chance)  outputs (chance)  "
        "inputs (chance)"
    )
    for row in rows:
        echo(
            f"{row.norms[0]:11.4g} {row.norms[1]:11.4g} {row.sum_norm:9.4g} "
            f"{row.cosine:8.3f} ({row.cosine_by_chance:.4f})  "
            f"{row.outputs:7.3f} ({row.outputs_by_chance:.3f})  "
            f"{row.inputs:7.3f} ({row.inputs_by_chance:.3f})  {row.name}"
        )
    if left_out := report.left_out():
        echo(left_out)
    echo(report.advice())
