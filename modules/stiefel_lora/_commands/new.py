"""``new``: write a first configuration from three answers."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

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
        memory = vram or _memory()
        found = propose(
            chosen, folder, vram=memory, family=family, trigger_word=trigger
        )
        path = output or Path(f"{folder.expanduser().resolve().name}.json")
        _write(path, found)
        for key, reason in found.reasons.items():
            typer.echo(f"{key} = {reason}.")
        typer.echo(
            f'Wrote {path}. Check it with: stiefel-lora validate "{path}"\n'
            f'Train with: stiefel-lora train "{path}"'
        )


def _kind(given: str | None) -> Kind:
    from .._exceptions import ConfigError
    from ..jobs.new_config import KINDS

    text = given or _ask("--kind", f"What to learn ({', '.join(KINDS)})")
    for kind in KINDS:
        if text.strip().lower() == kind:
            return kind
    raise ConfigError(f"--kind must be one of {', '.join(KINDS)}, but got {text!r}.")


def _memory() -> int:
    from .._diagnosis import gpu_gigabytes
    from .._exceptions import ConfigError

    found = gpu_gigabytes()
    if found:
        typer.echo(f"GPU memory: {found} GB.")
        return found
    text = _ask("--vram", "GPU memory in GB (no NVIDIA GPU was found)")
    if not text.strip().isdecimal():
        raise ConfigError(f"--vram must be a number of GB, but got {text!r}.")
    return int(text)


def _ask(option: str, question: str) -> str:
    """Ask on a terminal.

    Raises:
        ConfigError: If there is no terminal.
    """
    from .._exceptions import ConfigError

    if not sys.stdin.isatty():
        raise ConfigError(
            f"{option} is not given, and there is no terminal to ask. Add {option}."
        )
    return typer.prompt(question)


def _write(path: Path, found: Proposal) -> None:
    from ..config import parse_config

    # A mistake would otherwise only be found when training is started.
    parse_config(found.data, folder=path.parent)
    write_config(path, found.data)
