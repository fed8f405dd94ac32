"""``train``."""

from __future__ import annotations

import contextlib
import logging
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Any

import typer
from typer.core import TyperCommand

from .._exceptions import ConfigError
from ._shared import (
    INTERRUPTED,
    ConfigArgument,
    PluginOption,
    SetOption,
    load,
    sentences,
)

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
    plugins: PluginOption = None,
) -> None:
    """Train a LoRA."""
    with sentences():
        with _naming_plugins(config, overrides, resume):
            settings = load(config, overrides, plugins)
        from ..config import check_complete

        check_complete(settings)
        hush_libraries()
        from .. import training

        if resume is not None:
            resume = _run_meant(config, resume)
        result = training.train(settings, resume=resume)
        if result.interrupted:
            raise typer.Exit(INTERRUPTED)


@contextlib.contextmanager
def _naming_plugins(
    config: str, overrides: list[str] | None, resume: str | None
) -> Iterator[None]:
    """Add to an error the plug-ins that the run to resume was started with."""
    try:
        yield
    except ConfigError as error:
        found = _plugins_of_run(config, overrides, resume) if resume else []
        missing = [text for text in found if text not in str(error)]
        if not missing:
            raise
        options = " ".join(f"--plugin {text}" for text in missing)
        raise ConfigError(
            f"{error} The run to resume was started with {options}."
        ) from error


def _plugins_of_run(config: str, overrides: list[str] | None, resume: str) -> list[str]:
    """Plug-ins of the run to resume; none where it cannot be found."""
    from ..config import load_config
    from ..config.presets import find_config
    from ..runs.run_folder import existing_run_folders, plugins_in

    if resume != "last":
        place = Path(resume).resolve()
        # A checkpoint lies two folders below its run.
        return plugins_in(place) or plugins_in(place.parent.parent)
    without = ["optimizer.name=adamw", "lora_init=auto", "plugins=[]"]
    try:
        settings = load_config(find_config(config), [*(overrides or ()), *without])
    except ConfigError:
        return []
    runs = existing_run_folders(settings.output_dir, settings.run_name)
    return next((plugins_in(run.root) for run in runs if run.has_checkpoint), [])


def _run_meant(config: str, resume: str) -> str:
    """Value of ``--resume``: a configuration inside a run's folder means that run.

    Raises:
        ConfigError: the configuration is of one run and the checkpoint of another.
    """
    from ..config.presets import find_config
    from ..runs.run_folder import run_of_config

    own = run_of_config(find_config(config))
    if own is None:
        return resume
    if resume == "last":
        return str(own.root)
    named = Path(resume).resolve()
    if own.root.resolve() not in (named, *named.parents):
        raise ConfigError(
            f"--resume {resume} is of another run than {config}, which is the "
            f"configuration of {own.root}. Give the config.json of the run to resume, "
            f"or a copy outside of a run's folder."
        )
    return resume


def hush_libraries() -> None:
    """Keep remarks of libraries on packages that we do not use off the screen.

    They speak while they are imported; what the user set comes first.
    """
    os.environ.setdefault("TRANSFORMERS_VERBOSITY", "error")
    logging.getLogger("bitsandbytes").setLevel(logging.ERROR)
