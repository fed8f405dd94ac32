"""``train``."""

from __future__ import annotations

from typing import Annotated, Any

import typer
from typer.core import TyperCommand

from .._entry import INTERRUPTED, train_file
from ._shared import ConfigArgument, PluginOption, SetOption, sentences

__all__ = ["OptionalValue", "train"]


class OptionalValue(TyperCommand):
    """A command where ``--resume`` may stand without a value and then means last."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        """Put the value behind a ``--resume`` that has none."""
        if "--resume" in args:
            after = args.index("--resume") + 1
            if after == len(args) or args[after].startswith("-"):
                args = [*args[:after], "last", *args[after:]]
        return super().parse_args(ctx, args)


def train(
    config: ConfigArgument,
    overrides: SetOption = None,
    resume: Annotated[
        str | None,
        typer.Option(
            metavar="[last|PATH]",
            help="Go on from the last checkpoint of this run, or from the one at PATH.",
            show_default=False,
        ),
    ] = None,
    plugins: PluginOption = None,
) -> None:
    """Train a LoRA."""
    with sentences():
        result = train_file(config, overrides or (), resume, plugins or ())
        if result.interrupted:
            raise typer.Exit(INTERRUPTED)
