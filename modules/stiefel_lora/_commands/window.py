"""Command ``ui``: the graphical user interface."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from ._shared import PluginOption, load_plugins, user_errors

__all__ = ["ui"]


def ui(
    config: Annotated[
        str | None,
        typer.Argument(
            metavar="[CONFIG]",
            help="Config file or preset to open. By default, the settings of the "
            "last session are opened.",
            show_default=False,
        ),
    ] = None,
    plugins: PluginOption = None,
) -> None:
    """Open the graphical user interface."""
    with user_errors():
        load_plugins(plugins, installed=True)
        from ..config.plugins import offer_methods
        from ..config.presets import find_config
        from ..ui import launch

        offer_methods()
        path: Path | None = find_config(config) if config else None
        raise typer.Exit(launch(path))
