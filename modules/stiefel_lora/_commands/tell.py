"""Command ``tell``: send commands to a running training."""

from __future__ import annotations

import contextlib
import os
from enum import Enum
from pathlib import Path
from typing import Annotated

import typer

from .._exceptions import InputError, OutputError
from .._locks import is_held
from ._shared import user_errors

__all__ = ["tell"]


class Order(str, Enum):
    """Commands for a running training."""

    sample = "sample"
    save = "save"
    stop = "stop"


def tell(
    order: Annotated[
        Order,
        typer.Argument(
            help="sample: generate sample images. save: write a checkpoint and a "
            "LoRA file. stop: write a checkpoint and stop training.",
            show_default=False,
        ),
    ],
    run: Annotated[
        Path, typer.Argument(help="Path of the run folder.", show_default=False)
    ],
) -> None:
    """Send a command to a running training. It is executed after the current step."""
    with user_errors():
        from ..runs import send_command

        if not _has_process(run):
            _check_events(run)
        send_command(run, order.value)
        typer.echo(f"{run.name} will {order.value} after the current step.")


def _has_process(run: Path) -> bool:
    """Return whether a process holds the lock of a run folder."""
    from ..runs.run_lock import run_lock_path

    # For names too long for a lock, and disks without locks, the events are checked.
    with contextlib.suppress(OSError, OutputError):
        return os.path.isdir(run) and is_held(run_lock_path(run.absolute()))
    return False


def _check_events(run: Path) -> None:
    """Raise an error for folders without events and for runs that have ended."""
    from ..runs import read_events

    events = run / "events.jsonl"
    if not os.path.isfile(events):
        raise InputError(
            f"{run} is not a run folder: it contains no events.jsonl. Give a run "
            "folder such as runs/my_run."
        )
    last = None
    for event in read_events(events):
        last = event.get("type")
    if last in ("end", "stop", "error"):
        raise InputError(
            f"The run in {run} has ended. Commands can only be sent to a running "
            "training."
        )
