"""Command ``import``: convert a configuration of another trainer."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from .._wording import quoted
from ..families.catalogue import family_names, listed
from ._shared import BAD_INPUT, check_new, needed, unset, user_errors, write_config

__all__ = ["import_config"]


def import_config(
    words: Annotated[
        list[str],
        needed(
            "FILE",
            "Configuration of OneTrainer (.json), sd-scripts (.toml, or a text file "
            "with the command line), kohya_ss (.json) or ai-toolkit (.yaml). Or the "
            "command line itself, after --.",
        ),
    ],
    output: Annotated[
        Path | None,
        unset(
            "File to write. By default, NAME_imported.json in the current folder.",
            "--output",
            "-o",
        ),
    ] = None,
    family: Annotated[
        str | None,
        unset(
            f"Base model: {listed(family_names())}. By default, read from the file.",
            "--family",
        ),
    ] = None,
    strict: Annotated[
        bool,
        typer.Option(
            "--strict",
            help="End with exit code 2 if something that changes training is ignored.",
        ),
    ] = False,
) -> None:
    """Convert a configuration of another trainer, with a report on every key.

    Each key is taken, translated or ignored, with the reason.
    """
    with user_errors():
        from ..config.importing import import_file, import_words

        chosen = _family(family)
        if len(words) == 1 and not words[0].startswith("-"):
            found = import_file(words[0], chosen)
            name = Path(words[0]).stem.lstrip("#").strip()
        else:
            found = import_words(words, chosen)
            name = str(found.data.get("run_name", "command"))
        path = output or Path(f"{name}_imported.json")
        check_new(path)
        for line in found.report.lines():
            typer.echo(line)
        write_config(path, found.data)
        typer.echo(f"Wrote {path}. Check it with: stiefel-lora validate {quoted(path)}")
    if strict and found.report.differences:
        raise typer.Exit(BAD_INPUT)


def _family(given: str | None) -> str | None:
    from .._exceptions import ConfigError

    if given is None or given.lower() in family_names():
        return given and given.lower()
    raise ConfigError(f"--family must be {listed(family_names())}, but got {given!r}.")
