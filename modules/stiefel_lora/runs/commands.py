"""Commands to a running training, sent as files in the folder ``commands``.

The files are named ``stop``, ``sample`` and ``save``. The command line, the batch
runner and the GUI use the same mechanism on every operating system.
"""

from __future__ import annotations

import contextlib
from pathlib import Path
from typing import Literal, get_args

__all__ = ["Command", "send_command", "take_commands"]

Command = Literal["stop", "sample", "save"]


def take_commands(folder: Path) -> set[Command]:
    """Read and remove the commands in ``folder``. Unknown files are kept."""
    found: set[Command] = set()
    for command in get_args(Command):
        # Removing the file is the test for it: a command that is sent in between is
        # found at the next step, and none is lost or found twice.
        with contextlib.suppress(OSError):
            (folder / command).unlink()
            found.add(command)
    return found


def send_command(run_dir: Path, command: Command) -> None:
    """Send a command to the run in ``run_dir``: stop, sample or save."""
    folder = run_dir / "commands"
    folder.mkdir(parents=True, exist_ok=True)
    (folder / command).touch()
