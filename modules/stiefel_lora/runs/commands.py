"""Orders to a running job: files named stop, sample or save in its ``commands`` folder.

The command line, the batch runner and a GUI use the same way on every system. Polling
one small folder a step costs microseconds.
"""

from __future__ import annotations

import contextlib
from pathlib import Path
from typing import Literal, get_args

__all__ = ["Command", "send_command", "take_commands"]

Command = Literal["stop", "sample", "save"]


def take_commands(folder: Path) -> set[Command]:
    """Read and remove the orders that wait in ``folder``; unknown files stay."""
    found: set[Command] = set()
    for command in get_args(Command):
        with contextlib.suppress(OSError):
            (folder / command).unlink()
            found.add(command)
    return found


def send_command(run_dir: Path, command: Command) -> None:
    """Order the run in ``run_dir`` to stop, to make samples or to save."""
    folder = run_dir / "commands"
    folder.mkdir(parents=True, exist_ok=True)
    (folder / command).touch()
