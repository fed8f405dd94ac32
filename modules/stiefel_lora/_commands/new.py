"""``new``: write a first configuration from three answers."""

from __future__ import annotations

import re
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from .._wording import quoted
from ..families.catalogue import DEFAULT, family_names, listed
from ._shared import unset, user_errors, write_config

if TYPE_CHECKING:
    from ..jobs.new_config import Kind, Proposal

__all__ = ["new"]


def new(
    kind: Annotated[
        str | None, unset("What to learn: style, character or concept.", "--kind")
    ] = None,
    images: Annotated[
        Path | None, unset("Folder with the images.", "--images", metavar="DIR")
    ] = None,
    vram: Annotated[
        int | None,
        unset("GPU memory in GB. NVIDIA GPUs are detected.", "--vram", metavar="GB"),
    ] = None,
    family: Annotated[
        str,
        typer.Option("--family", help=f"Base model: {listed(family_names())}."),
    ] = DEFAULT,
    trigger: Annotated[
        str | None,
        unset(
            "Trigger word. By default, ohwx for a character or concept.", "--trigger"
        ),
    ] = None,
    output: Annotated[
        Path | None,
        unset("File to write. By default, named after the folder.", "--output"),
    ] = None,
) -> None:
    """Write a configuration for your images, with a reason for each value.

    Asks for what is not given: what to learn, the folder, and the GPU memory.
    """
    with user_errors():
        from ..jobs.new_config import propose

        chosen = _kind(kind)
        folder = images or Path(_ask("--images", "Folder with the images"))
        memory = _memory() if vram is None else vram
        found = propose(
            chosen, folder, vram=memory, family=family, trigger_word=trigger
        )
        for key, reason in found.reasons.items():
            typer.echo(f"{key} = {reason}.")
        # Afterwards: without a terminal that takes the reasons, nothing is written.
        path = output or Path(f"{found.name}.json")
        _write(path, found)
        typer.echo(
            f"Wrote {path}. Check it with: stiefel-lora validate {quoted(path)}\n"
            f"Train with: stiefel-lora train {quoted(path)}"
        )


def _kind(given: str | None) -> Kind:
    from .._exceptions import ConfigError
    from ..jobs.new_config import KINDS

    text = given
    while True:
        text = text or _ask("--kind", f"What to learn ({', '.join(KINDS)})")
        for kind in KINDS:
            if text.strip().lower() == kind:
                return kind
        if given:
            break
        typer.echo(f"Enter one of {', '.join(KINDS)}.")
        text = None
    raise ConfigError(f"--kind must be one of {', '.join(KINDS)}, but got {text!r}.")


def _memory() -> int:
    from .._diagnosis import gpu_gigabytes

    found = gpu_gigabytes()
    if found:
        typer.echo(f"GPU memory: {found} GB.")
        return found
    while True:
        text = _ask("--vram", "GPU memory in GB (no NVIDIA GPU was found)")
        number = re.fullmatch(r"(?ai)\s*(\d{1,4})\s*(GB)?\s*", text)
        if number:
            return int(number[1])
        typer.echo("Enter a number of GB, such as 12.")


def _ask(option: str, question: str) -> str:
    """Ask on a terminal.

    Raises:
        ConfigError: If there is no terminal.
    """
    from .._exceptions import ConfigError

    if sys.stdin is None or not sys.stdin.isatty():
        raise ConfigError(
            f"{option} is not given, and there is no terminal to ask. Add {option}."
        )
    return typer.prompt(question)


def _write(path: Path, found: Proposal) -> None:
    from ..config import parse_config
    from ..config.path_text import safe_name

    # A mistake would otherwise only be found when training is started.
    if safe_name(path.stem) != path.stem:
        found.data["run_name"] = found.name
    parse_config(found.data, folder=path.parent)
    write_config(path, found.data)
