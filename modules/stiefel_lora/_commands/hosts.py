"""Command ``onetrainer``: run OneTrainer with the optimizers of this package."""

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
        Path, typer.Argument(help="Path of the OneTrainer folder.", show_default=False)
    ],
) -> None:
    """Start OneTrainer with the stiefel-lora optimizers, for example CHECKOUT ui.

    Use install-dropin and remove-dropin for other launchers. Run this command in the
    Python environment of OneTrainer.
    """
    module = "stiefel_lora.integrations.onetrainer.launch"
    command = [sys.executable, "-m", module, str(checkout), *context.args]
    child = subprocess.Popen(command)
    while True:
        try:
            code = child.wait()
        except KeyboardInterrupt:
            # OneTrainer received the signal too and needs time to save.
            continue
        raise typer.Exit(code)
