"""``tell``: orders to a run that goes on in another process."""

from __future__ import annotations

import contextlib
import os
from enum import Enum
from pathlib import Path
from typing import Annotated

import typer

from .._exceptions import InputError, OutputError
from .._locks import is_held
from ._shared import sentences

__all__ = ["tell"]


class Order(str, Enum):
    """What a run can be told."""

    sample = "sample"
    save = "save"
    stop = "stop"


def tell(
    order: Annotated[
        Order,
        typer.Argument(
            help="sample: make pictures now. save: write checkpoint and LoRA now. "
            "stop: save and end.",
            show_default=False,
        ),
    ],
    run: Annotated[Path, typer.Argument(help="Folder of the run.", show_default=False)],
) -> None:
    """Order a running training to sample, save or stop; it obeys after its step."""
    with sentences():
        from ..runs import send_command

        if not _has_process(run):
            _check_events(run)
        send_command(run, order.value)
        typer.echo(f"{run.name} will {order.value} after the step it is in.")


def _has_process(run: Path) -> bool:
    """Ask the lock: a process that still loads has written no event of its own."""
    from ..runs.run_lock import run_lock_path

    # Names that are too long for a lock, and disks without locks, have their events.
    with contextlib.suppress(OSError, OutputError):
        return os.path.isdir(run) and is_held(run_lock_path(run.absolute()))
    return False


def _check_events(run: Path) -> None:
    """Refuse folders without events, and runs whose last event ends them."""
    from ..runs import read_events

    events = run / "events.jsonl"
    if not os.path.isfile(events):
        raise InputError(
            f"{run} is no folder of a run: it holds no events.jsonl. Name one such "
            f"as runs/my_run."
        )
    last = None
    for event in read_events(events):
        last = event.get("type")
    if last in ("end", "stop", "error"):
        raise InputError(f"The run in {run} has ended; there is nobody to tell.")
