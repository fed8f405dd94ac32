"""``train``."""

from __future__ import annotations

import logging
import os
from typing import Annotated, Any

import typer
from typer.core import TyperCommand

from ._shared import INTERRUPTED, ConfigArgument, SetOption, load, sentences

__all__ = ["OptionalValue", "hush_libraries", "train"]


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
) -> None:
    """Train a LoRA."""
    with sentences():
        settings = load(config, overrides)
        from ..config import check_complete

        check_complete(settings)
        hush_libraries()
        from .. import training

        result = training.train(settings, resume=resume)
        if result.interrupted:
            raise typer.Exit(INTERRUPTED)


def hush_libraries() -> None:
    """Keep remarks of libraries on packages that we do not use off the screen.

    They speak while they are imported; what the user set comes first.
    """
    os.environ.setdefault("TRANSFORMERS_VERBOSITY", "error")
    logging.getLogger("bitsandbytes").setLevel(logging.ERROR)
