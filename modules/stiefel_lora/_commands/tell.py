"""``tell``: orders to a run that goes on in another process."""

from __future__ import annotations

import os
from enum import Enum
from pathlib import Path
from typing import Annotated

import typer

from .._exceptions import InputError
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
        from ..training import read_events, send_command

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
        send_command(run, order.value)
        typer.echo(f"{run.name} will {order.value} after the step it is in.")
