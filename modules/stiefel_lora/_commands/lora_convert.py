"""Commands ``lora convert`` and ``lora verify``."""

from __future__ import annotations

import json
from enum import Enum
from pathlib import Path
from typing import Annotated

from .._exceptions import InputError
from ..families.catalogue import records
from ._shared import echo, unset, user_errors
from .lora import app, check_known, check_lines, print_result, verdict
from .lora_options import (
    AllowOption,
    DtypeOption,
    FileArgument,
    JsonOption,
    OutputOption,
    OverwriteOption,
    VerifyOption,
    torch_dtype,
)

__all__ = ["SpellingName", "spelling_of"]


class SpellingName(str, Enum):
    """Key formats to convert to."""

    kohya = "kohya"
    kohya_diffusers = "kohya-diffusers"
    peft = "peft"
    peft_folder = "peft-folder"
    diffusers_old = "diffusers-old"
    onetrainer = "onetrainer"
    onetrainer_legacy = "onetrainer-legacy"
    comfyui = "comfyui"
    original = "original"


@app.command()
def convert(
    file: FileArgument,
    to: Annotated[
        SpellingName,
        unset("Key format of the output.", "--to"),
    ],
    output: OutputOption,
    rank: Annotated[
        int | None,
        unset(
            "Convert LoHa, LoKr and full-difference layers to LoRA layers of this "
            "rank. If --base is given, DoRA layers are converted, too."
        ),
    ] = None,
    error: Annotated[
        float | None,
        unset(
            "Like --rank, but with a maximum relative error per layer instead of a "
            "rank."
        ),
    ] = None,
    base: Annotated[
        Path | None,
        unset(
            "Path of the base model, which is required to convert DoRA layers.",
            metavar="FILE",
        ),
    ] = None,
    dtype: DtypeOption = None,
    as_json: JsonOption = False,
    overwrite: OverwriteOption = False,
    allow_unknown: AllowOption = False,
    verify: VerifyOption = True,
) -> None:
    """Convert a LoRA to the key format of another tool. Its updates do not change."""
    with user_errors():
        from ..files import Checkpoint, Rank, convert_lora, open_lora
        from ..files.tools.save_lora import command_line

        given = open_lora(file)
        check_known(file, given, allow_unknown)
        saved = convert_lora(
            given,
            output,
            spelling_of(to),
            goal=None if rank is None and error is None else Rank(rank, error),
            base=None if base is None else Checkpoint(base),
            dtype=torch_dtype(dtype),
            overwrite=overwrite,
            command=command_line(
                "convert", file, to=to, rank=rank, error=error, base=base, dtype=dtype
            ),
        )
    error = saved.deviation if saved.error is None else saved.error
    print_result(saved, error, (), as_json, verify)


@app.command()
def verify(
    file: FileArgument,
    against: Annotated[
        Path | None,
        unset(
            "Compare with the weight deltas of this LoRA, e.g. the file before a "
            "conversion.",
            metavar="FILE",
        ),
    ] = None,
    as_json: JsonOption = False,
    allow_unknown: AllowOption = False,
) -> None:
    """Check that other programs can load a LoRA."""
    with user_errors():
        from ..files import open_lora, verify_lora
        from ..files.tools.verifying import OWN_OF_PEFT, compare_loras

        given = open_lora(file)
        check_known(file, given, allow_unknown)
        checks = verify_lora(given)
        own = () if against is None else (compare_loras(given, open_lora(against)),)
        lines = check_lines([*own, *checks])
        if as_json:
            echo(json.dumps({"checks": lines}, indent=1))
        else:
            for line in lines:
                echo(line)
            if any(check.is_right for check in checks) and (text := verdict(checks)):
                echo(text, err=True)
            if given.spelling == OWN_OF_PEFT:
                echo(
                    "Only peft supports this key format. Convert the file to kohya or "
                    "peft for other programs."
                )
        if not all(check.is_right for check in own):
            raise InputError(
                f"{file}: the weight deltas differ from those of {against}. If one was "
                "made from the other with a weight of 1, create it again."
            )
        if not checks and not own:
            family = given.family or "an unknown family"
            known = ", ".join(record.short_label for record in records())
            raise InputError(
                f"{file}: no program can check a LoRA of {family} in the key format "
                f"{given.spelling}. Use {known} or peft's own format."
            )
        if checks and not any(check.is_right for check in checks):
            raise InputError(
                f"{file}: no program loads the whole file correctly. Convert it to the "
                "key format of the program that you use."
            )


def spelling_of(name: SpellingName) -> str:
    """Return the name of a key format in ``stiefel_lora.files``."""
    names = {
        "kohya-diffusers": "kohya (diffusers names)",
        "peft": "PEFT",
        "peft-folder": "PEFT (own)",
        "diffusers-old": "diffusers (old)",
        "onetrainer": "OneTrainer",
        "onetrainer-legacy": "OneTrainer (legacy)",
        "comfyui": "ComfyUI",
        "original": "original names",
    }
    return names.get(name.value, name.value)
