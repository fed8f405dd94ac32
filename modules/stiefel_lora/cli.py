"""Entry point of the command ``stiefel-lora``.

The commands are defined in ``_commands``, which requires typer. This module only
requires the standard library, so that an installation without the extra ``train``
prints an error message instead of a traceback.
"""

from __future__ import annotations

import io
import sys

from ._install import install_command

__all__ = ["main"]


def main() -> None:
    """Run the command line and exit.

    Exit codes: 0 for success, 1 for failure, 2 for invalid input, and 130 if training
    was interrupted and saved.
    """
    _print_any_name()
    try:
        from ._commands import app
    except ModuleNotFoundError as error:
        package = (error.name or "").partition(".")[0]
        if package == __package__:
            raise
        sys.stderr.write(
            f"The command line requires the package {package}, which is not installed. "
            f"Install it with: {install_command('train')}\n"
        )
        raise SystemExit(2) from None
    app(prog_name="stiefel-lora")


def _print_any_name() -> None:
    r"""Print bytes of file names that are not text as ``\udcff``, as stderr does."""
    stream = sys.stdout
    if isinstance(stream, io.TextIOWrapper) and stream.errors == "strict":
        stream.reconfigure(errors="backslashreplace")


if __name__ == "__main__":
    main()
