"""Command ``web``: the graphical user interface in the browser."""

from __future__ import annotations

from typing import Annotated

import typer

from ._shared import PluginOption, load_plugins, user_errors

__all__ = ["web"]


def web(
    config: Annotated[
        str | None,
        typer.Argument(
            metavar="[CONFIG]",
            help="Config file or preset to open. By default, the settings of the "
            "last session are opened.",
            show_default=False,
        ),
    ] = None,
    host: Annotated[
        str, typer.Option(metavar="ADDRESS", help="Address to listen on.")
    ] = "127.0.0.1",
    port: Annotated[
        int, typer.Option(min=1, max=65535, help="Port to listen on.")
    ] = 7865,
    plugins: PluginOption = None,
) -> None:
    """Serve the graphical user interface to browsers."""
    with user_errors():
        load_plugins(plugins, installed=True)
        from ..config.plugins import offer_methods
        from ..config.presets import find_config
        from ..ui.web import serve

        offer_methods()
        serve(find_config(config) if config else None, host=host, port=port)
