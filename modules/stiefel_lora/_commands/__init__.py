"""Commands of the command line."""

from __future__ import annotations

from typing import Annotated

import typer

from .._version import __version__
from . import (  # noqa: F401  (add their verbs to lora)
    lora_convert,
    lora_inspect,
    lora_merge,
    lora_models,
)
from ._shared import WholeSummaries
from .batch import batch
from .caption import caption
from .catalogue import optimizers, presets, schema
from .doctor import doctor
from .hosts import onetrainer
from .import_config import import_config
from .lora import app as lora
from .new import new
from .queue import app as queue
from .runs import app as runs
from .sample import sample
from .scan import scan
from .study import study
from .tell import tell
from .training import OptionalValue, train
from .validate import validate
from .web import web
from .window import ui

__all__ = ["app"]

app = typer.Typer(
    cls=WholeSummaries,
    help="Train LoRAs with geometry-aware optimizers.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    # Plain help: importing rich for frames would double the time of --help.
    rich_markup_mode=None,
)

app.command()(new)
app.command("import")(import_config)
app.command(cls=OptionalValue)(train)
app.command()(validate)
app.command()(scan)
app.command()(caption)
app.command()(sample)
app.command()(ui)
app.command()(web)
app.command()(batch)
app.command()(study)
app.add_typer(queue, name="queue")
app.add_typer(runs, name="runs")
app.add_typer(lora, name="lora")
app.command()(presets)
app.command()(optimizers)
app.command()(schema)
app.command()(doctor)
app.command()(tell)
app.command(
    context_settings={"allow_extra_args": True, "ignore_unknown_options": True}
)(onetrainer)


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
    """Train LoRAs with geometry-aware optimizers."""
