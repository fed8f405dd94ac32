"""Common options, exit codes and error messages of all commands."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
import typer.core

from .._entry import BAD_INPUT, FAILURE, INTERRUPTED, load, outcome_of
from .._wording import printable

if TYPE_CHECKING:
    from ..data.buckets import Size

__all__ = [
    "BAD_INPUT",
    "FAILURE",
    "INTERRUPTED",
    "ConfigArgument",
    "DecodeOption",
    "PluginOption",
    "ProcessesOption",
    "SetOption",
    "WholeSummaries",
    "check_new",
    "decode_images",
    "echo",
    "load",
    "load_plugins",
    "needed",
    "unset",
    "user_errors",
    "write_config",
]

# Maximum length of a summary in a list of commands.
_NO_LIMIT = 1000
# Images that are decoded within a second or two.
_FEW = 100


class WholeSummaries(typer.core.TyperGroup):
    """Group of commands whose help shows whole summaries, on several lines if long."""

    def format_commands(self, ctx: Any, formatter: Any) -> None:
        """Write the commands with the beginning of their help, up to a period."""
        commands = [(name, self.get_command(ctx, name)) for name in self.commands]
        rows = [
            (name, command.get_short_help_str(limit=_NO_LIMIT))
            for name, command in commands
            if command is not None and not command.hidden
        ]
        with formatter.section("Commands"):
            formatter.write_dl(rows)


def needed(metavar: str, text: str) -> Any:
    """Create a required argument."""
    return typer.Argument(metavar=metavar, help=text, show_default=False)


def unset(text: str, *names: str, metavar: str | None = None) -> Any:
    """Create an option without a default, with the name of the parameter.

    Upper and lower case of choices are equal.
    """
    return typer.Option(
        *names,
        metavar=metavar,
        help=text,
        show_default=False,
        case_sensitive=False,
    )


ConfigArgument = Annotated[
    str,
    typer.Argument(
        metavar="CONFIG",
        help="Path of a config file, or the name of a preset.",
        show_default=False,
    ),
]
DecodeOption = Annotated[
    bool,
    typer.Option(
        "--decode/--no-decode",
        help="Decode every image as in training, which finds truncated and corrupt "
        "files. Without, only the headers are read, which is faster.",
    ),
]
SetOption = Annotated[
    list[str] | None,
    typer.Option(
        "--set",
        metavar="KEY=VALUE",
        help="Override a setting: --set lora_rank=32 --set optimizer.momentum=0.8. Can "
        "be repeated.",
        show_default=False,
    ),
]
PluginOption = Annotated[
    list[str] | None,
    typer.Option(
        "--plugin",
        metavar="FILE|MODULE",
        help="Load optimizers from a Python file or module: --plugin my_method.py. Can "
        "be repeated.",
        show_default=False,
    ),
]

ProcessesOption = Annotated[
    int | None,
    typer.Option(
        "--processes",
        metavar="N",
        help="Share every batch among N processes, with a GPU each.",
        show_default=False,
    ),
]


def load_plugins(plugins: list[str] | None, *, installed: bool = False) -> None:
    """Load the plugins of the command line and of installed packages.

    Args:
        plugins: files, relative to the current folder, or modules.
        installed: whether to load plugins of installed packages, too.
    """
    from ..methods import load_installed, load_plugin

    for text in plugins or ():
        load_plugin(text)
    for problem in load_installed() if installed else ():
        typer.echo(f"Warning: {problem}", err=True)


def decode_images(sizes: Mapping[Path, Size]) -> dict[Path, str]:
    """Return the reasons why images cannot be decoded. Many images have a bar."""
    from ..data.decode_check import DecodeCheck
    from ..runs.progress import ProgressBar

    if len(sizes) < _FEW:
        return DecodeCheck().check(sizes)
    with ProgressBar("Decoding images", len(sizes)) as bar:
        return DecodeCheck().check(sizes, bar.advance)


def echo(text: str, *, err: bool = False) -> None:
    """Print a text that may contain control characters from files."""
    typer.echo(printable(text), err=err)


@contextlib.contextmanager
def user_errors() -> Iterator[None]:
    """Print errors as messages and set the exit code, inside a ``with`` block."""
    try:
        yield
    except (Exception, KeyboardInterrupt) as error:
        outcome = outcome_of(error)
        if outcome is None:
            raise
        message, code = outcome
        echo(message, err=True)
        raise typer.Exit(code) from error


def check_new(path: Path) -> None:
    """Check that a file does not exist, before work is done for it.

    Raises:
        OutputError: If it exists.
    """
    if path.exists():
        raise _existing(path)


def _existing(path: Path) -> Exception:
    from .._exceptions import OutputError

    return OutputError(f"{path} exists. Choose another file with --output.")


def write_config(path: Path, data: Mapping[str, Any]) -> None:
    """Write a configuration to a new file.

    Raises:
        OutputError: If the file exists or cannot be written.
    """
    from .._exceptions import OutputError

    text = json.dumps(data, indent=2, ensure_ascii=False) + "\n"
    file = None
    try:
        with path.open("x", encoding="utf-8", newline="\n") as file:
            file.write(text)
    except FileExistsError:
        raise _existing(path) from None
    except OSError as error:
        # On a full disk, a part of the file would remain, and be in the way later.
        if file is not None:
            path.unlink(missing_ok=True)
        raise OutputError(f"{path} cannot be written: {error.strerror}.") from error
