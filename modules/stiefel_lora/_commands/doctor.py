"""Command ``doctor``: check the installation."""

from __future__ import annotations

import dataclasses
import json
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from .._diagnosis import Diagnosis, Part

__all__ = ["doctor"]

BROKEN = 1


def doctor(
    as_json: Annotated[
        bool, typer.Option("--json", help="Print JSON instead of text.")
    ] = False,
) -> None:
    """Check the installation and print how to install missing packages.

    The exit code is 0 if training is possible.
    """
    from .._diagnosis import diagnose

    found = diagnose()
    if as_json:
        text = json.dumps(dataclasses.asdict(found), indent=2)
    else:
        text = "\n".join(_lines(found))
    typer.echo(text)
    if found.is_broken:
        raise typer.Exit(BROKEN)


def _lines(found: Diagnosis) -> list[str]:
    rows = [
        ("stiefel-lora", f"{found.version} ({found.folder})"),
        ("Python", found.python),
        ("system", found.system),
        ("torch", found.torch),
        ("GPU", "; ".join(found.devices) or "none; training runs on the CPU"),
        *((f"[{part.extra}]", _state(part)) for part in found.parts),
    ]
    width = max(len(name) for name, _ in rows) + 2
    lines = [f"{name:<{width}}{text}" for name, text in rows]
    for title, texts in (
        ("Problems", found.problems),
        ("Optional, not installed or not usable", found.notes),
    ):
        if texts:
            lines += ["", f"{title}:", *(f"- {text}" for text in texts)]
    if not found.is_broken:
        lines += ["", "Training works with this installation."]
    return lines


def _state(part: Part) -> str:
    if part.works:
        return f"installed ({part.purpose})"
    return f"{'broken' if part.broken else 'not installed'} ({part.purpose})"
