"""The verbs of the command line; everything heavy is imported inside a verb."""

from __future__ import annotations

import contextlib
import logging
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from typer.core import TyperCommand

from ._exceptions import InputError, OutputError, TrainingError
from ._version import __version__

if TYPE_CHECKING:
    from .config import TrainConfig

__all__ = ["app"]

FAILURE, BAD_INPUT, INTERRUPTED = 1, 2, 130

app = typer.Typer(
    help="Train LoRAs whose rank you can see.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    # Plain help: importing rich to draw frames would double the time of --help.
    rich_markup_mode=None,
)


class OptionalValue(TyperCommand):
    """A command where ``--resume`` may stand without a value and then means last."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        """Put the value behind a ``--resume`` that has none."""
        if "--resume" in args:
            after = args.index("--resume") + 1
            if after == len(args) or args[after].startswith("-"):
                args = [*args[:after], "last", *args[after:]]
        return super().parse_args(ctx, args)


ConfigArgument = Annotated[
    str,
    typer.Argument(
        metavar="CONFIG",
        help="A config file, or the name of a preset.",
        show_default=False,
    ),
]
SetOption = Annotated[
    list[str] | None,
    typer.Option(
        "--set",
        metavar="KEY=VALUE",
        help="Change a setting: --set lora_rank=32 --set optimizer.momentum=0.8. "
        "May be given again and again.",
        show_default=False,
    ),
]


@app.command(cls=OptionalValue)
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
    with _sentences():
        settings = _load(config, overrides)
        from .config import check_complete

        check_complete(settings)
        _hush_libraries()
        from . import training

        result = training.train(settings, resume=resume)
        if result.interrupted:
            raise typer.Exit(INTERRUPTED)


@app.command()
def validate(config: ConfigArgument, overrides: SetOption = None) -> None:
    """Check a config file without training."""
    with _sentences():
        settings = _load(config, overrides)
        from .config import remarks

        pictures = settings.batch_size * settings.gradient_accumulation_steps
        typer.echo(
            f"{config} is valid: {settings.optimizer.name}, rank {settings.lora_rank}, "
            f"{settings.steps} steps of {pictures} pictures."
        )
        for remark in remarks(settings):
            typer.echo(f"Remark: {remark}")


@app.command()
def presets() -> None:
    """List the presets that come with the package."""
    with _sentences():
        from .config.presets import list_presets

        found = list_presets()
    from rich.console import Console
    from rich.table import Table

    table = Table("Preset", "Model", "What it is for")
    for preset in found:
        table.add_row(preset.name, preset.family, preset.summary)
    Console().print(table, markup=False)


@app.command()
def optimizers(
    name: Annotated[
        str | None,
        typer.Argument(metavar="[NAME]", help="One optimizer.", show_default=False),
    ] = None,
) -> None:
    """List the optimizers, or the options of one."""
    with _sentences():
        from .methods import CATALOGUE, method

        chosen = None if name is None else method(name)
    from rich.console import Console
    from rich.table import Table

    if chosen is None:
        table = Table("Name", "Start at", "Learning rate is", "What it does")
        for entry in CATALOGUE.values():
            rate = f"{entry.default_lr:g}"
            table.add_row(entry.name, rate, entry.lr_unit, entry.summary)
    else:
        table = Table("Option", "Default", "Values", "What it does")
        for option in chosen.options:
            values = ", ".join(option.choices) or option.type.__name__
            default = "" if option.default is None else str(option.default)
            table.add_row(option.name, default, values, option.doc)
    Console().print(table, markup=False)


@app.command()
def schema(
    output: Annotated[
        Path | None, typer.Option(help="File to write.", show_default=False)
    ] = None,
) -> None:
    """Print the JSON Schema of config files, for editors."""
    with _sentences():
        from .config.json_schema import json_schema_text

        text = json_schema_text()
        if output is None:
            typer.echo(text, nl=False)
            return
        try:
            output.write_text(text, encoding="utf-8", newline="\n")
        except OSError as error:
            raise OutputError(
                f"{output} can not be written: {error.strerror}."
            ) from error


@app.command(
    context_settings={"allow_extra_args": True, "ignore_unknown_options": True}
)
def onetrainer(
    context: typer.Context,
    checkout: Annotated[
        Path, typer.Argument(help="Folder of OneTrainer.", show_default=False)
    ],
) -> None:
    """Start OneTrainer with our optimizers in it: CHECKOUT ui, CHECKOUT train ...

    Also install-dropin and remove-dropin, for other launchers. Run it in the
    environment of OneTrainer.
    """
    module = "stiefel_lora.integrations.onetrainer.launch"
    command = [sys.executable, "-m", module, str(checkout), *context.args]
    child = subprocess.Popen(command)
    while True:
        try:
            code = child.wait()
        except KeyboardInterrupt:
            # OneTrainer got it too, and needs its time to save.
            continue
        raise typer.Exit(code)


def _print_version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"stiefel-lora {__version__}")
        raise typer.Exit


@app.callback()
def _app(
    version: Annotated[
        bool,
        typer.Option(
            "--version",
            callback=_print_version,
            is_eager=True,
            help="Print the version.",
        ),
    ] = False,
) -> None:
    """Train LoRAs whose rank you can see."""


def _hush_libraries() -> None:
    """Keep remarks of libraries on packages that we do not use off the screen.

    They speak while they are imported; what the user set comes first.
    """
    os.environ.setdefault("TRANSFORMERS_VERBOSITY", "error")
    logging.getLogger("bitsandbytes").setLevel(logging.ERROR)


def _load(config: str, overrides: list[str] | None) -> TrainConfig:
    """Read and check a config file or preset, its paths included."""
    from .config import check_paths, load_config
    from .config.presets import find_config

    settings = load_config(find_config(config), overrides or ())
    check_paths(settings)
    return settings


@contextlib.contextmanager
def _sentences() -> Iterator[None]:
    """Turn the errors that a user can mend into a sentence and an exit code."""
    try:
        yield
    except InputError as error:
        _fail(str(error), BAD_INPUT)
    except TrainingError as error:
        _fail(str(error), FAILURE)
    except KeyboardInterrupt:
        _fail("Interrupted.", INTERRUPTED)
    except ModuleNotFoundError as error:
        package = (error.name or "").partition(".")[0]
        if package in ("", __package__):
            raise
        _fail(
            f"This needs the package {package}, which is not installed: "
            f'pip install "stiefel-lora[train]".',
            BAD_INPUT,
        )


def _fail(sentence: str, code: int) -> None:
    typer.echo(sentence, err=True)
    raise typer.Exit(code)
