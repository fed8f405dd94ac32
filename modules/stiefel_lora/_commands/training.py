"""``train``."""

from __future__ import annotations

from typing import Annotated, Any

import typer
from typer.core import TyperCommand

from .._entry import INTERRUPTED, train_file
from ._shared import ConfigArgument, PluginOption, SetOption, user_errors

__all__ = ["OptionalValue", "train"]


class OptionalValue(TyperCommand):
    """A command whose ``--resume`` option defaults to ``last`` if it has no value."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        """Insert the value after a ``--resume`` without one."""
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
            help="Resume from the last checkpoint of this run, or from PATH.",
            show_default=False,
        ),
    ] = None,
    plugins: PluginOption = None,
) -> None:
    """Train a LoRA."""
    with user_errors():
        result = train_file(config, overrides or (), resume, plugins or ())
        if result.interrupted:
            raise typer.Exit(INTERRUPTED)
