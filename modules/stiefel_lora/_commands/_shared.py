"""What every verb has in common: exit codes, options, sentences for errors."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import TYPE_CHECKING, Annotated

import typer

from .._exceptions import InputError, TrainingError

if TYPE_CHECKING:
    from ..config import TrainConfig

__all__ = [
    "BAD_INPUT",
    "FAILURE",
    "INTERRUPTED",
    "ConfigArgument",
    "PluginOption",
    "SetOption",
    "load",
    "load_plugins",
    "sentences",
]

FAILURE, BAD_INPUT, INTERRUPTED = 1, 2, 130

_PACKAGE = __name__.partition(".")[0]

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
PluginOption = Annotated[
    list[str] | None,
    typer.Option(
        "--plugin",
        metavar="FILE|MODULE",
        help="Load optimizers from a Python file, or from a module: --plugin "
        "my_method.py. May be given again and again.",
        show_default=False,
    ),
]


def load(
    config: str, overrides: list[str] | None, plugins: list[str] | None = None
) -> TrainConfig:
    """Read and check a config file or preset, its paths included."""
    from ..config import check_paths, load_config
    from ..config.presets import find_config

    settings = load_config(find_config(config), overrides or (), plugins or ())
    check_paths(settings)
    return settings


def load_plugins(plugins: list[str] | None, *, installed: bool = False) -> None:
    """Load the plug-ins that a command names, and those of installed packages.

    Args:
        plugins: files, relative to the current folder, or modules.
        installed: load those of entry points too; one that cannot be is reported.
    """
    from ..methods import load_installed, load_plugin

    for text in plugins or ():
        load_plugin(text)
    for problem in load_installed() if installed else ():
        typer.echo(f"Remark: {problem}", err=True)


@contextlib.contextmanager
def sentences() -> Iterator[None]:
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
        if package in ("", _PACKAGE):
            raise
        _fail(
            f"This needs the package {package}, which is not installed: "
            f'pip install "stiefel-lora[train]".',
            BAD_INPUT,
        )


def _fail(sentence: str, code: int) -> None:
    typer.echo(sentence, err=True)
    raise typer.Exit(code)
