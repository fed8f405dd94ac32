"""Common arguments and options of ``lora`` commands."""

from __future__ import annotations

from enum import Enum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, overload

import typer

from ._shared import needed, unset

if TYPE_CHECKING:
    import torch

__all__ = [
    "AllowOption",
    "Dtype",
    "DtypeOption",
    "FileArgument",
    "JsonOption",
    "LayersOption",
    "MaxNormOption",
    "NumbersOption",
    "OutputOption",
    "OverwriteOption",
    "SizeOption",
    "TotalErrorOption",
    "VerifyOption",
    "torch_dtype",
]


class Dtype(str, Enum):
    """Dtypes of LoRA files."""

    float32 = "float32"
    float16 = "float16"
    bfloat16 = "bfloat16"


FileArgument = Annotated[Path, needed("FILE", "Path of the LoRA file.")]
AllowOption = Annotated[
    bool,
    typer.Option(
        "--allow-unknown", help="Ignore keys that are not part of an adapter."
    ),
]
OutputOption = Annotated[
    Path,
    unset(
        "Path of the output. A missing .safetensors is appended to the name of a file.",
        "--output",
        metavar="FILE",
    ),
]
OverwriteOption = Annotated[
    bool, typer.Option("--overwrite", help="Overwrite an existing output file.")
]
DtypeOption = Annotated[
    Dtype | None,
    unset("Dtype of the saved tensors. The default is the widest dtype of the input."),
]
TotalErrorOption = Annotated[
    float | None,
    unset("Maximum relative error of the whole LoRA."),
]
SizeOption = Annotated[
    float | None,
    unset("Maximum file size in MB."),
]
MaxNormOption = Annotated[
    float | None,
    unset("Maximum norm of the output. If the norm is larger, it is scaled down."),
]
JsonOption = Annotated[
    bool,
    typer.Option("--json", help="Print only JSON."),
]
NumbersOption = Annotated[
    bool, typer.Option("--json", help="Print all statistics as JSON.")
]
LayersOption = Annotated[
    bool, typer.Option("--layers", help="Print one row per layer.")
]
VerifyOption = Annotated[
    bool,
    typer.Option(
        "--verify/--no-verify",
        help="Check that other programs can load the output.",
    ),
]


@overload
def torch_dtype(dtype: Dtype) -> torch.dtype: ...
@overload
def torch_dtype(dtype: Dtype | None) -> torch.dtype | None: ...
def torch_dtype(dtype: Dtype | None) -> torch.dtype | None:
    """Return the torch dtype."""
    import torch

    return None if dtype is None else getattr(torch, dtype.value)
