"""``onetrainer``: other trainers with our optimizers in them."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Annotated

import typer

__all__ = ["onetrainer"]


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
