"""Command ``web``: the graphical user interface in the browser."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from ._shared import PluginOption, load_plugins, unset, user_errors

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
        str,
        typer.Option(
            metavar="ADDRESS",
            help="Address to listen on. Any other than that of this machine itself "
            "requires a token, which is printed once or is taken from "
            "STIEFEL_LORA_WEB_TOKEN.",
        ),
    ] = "127.0.0.1",
    port: Annotated[
        int, typer.Option(min=1, max=65535, help="Port to listen on.")
    ] = 7865,
    names: Annotated[
        list[str] | None,
        unset(
            "Host name of a proxy in front of the server, which then requires a "
            "token. Can be repeated.",
            "--allowed-host",
            metavar="NAME",
        ),
    ] = None,
    datasets: Annotated[
        list[Path] | None,
        unset(
            "Folder whose images are shown, with its subfolders. Can be repeated. The "
            "folders of CONFIG and uploads are shown, too.",
            "--data",
            metavar="DIR",
        ),
    ] = None,
    runs: Annotated[
        list[Path] | None,
        unset(
            "Folder of runs to list, besides those of the queue. Can be repeated. The "
            "default is runs.",
            "--runs",
            metavar="DIR",
        ),
    ] = None,
    models: Annotated[
        list[Path] | None,
        unset(
            "Folder with models: taggers for automatic captions, checkpoints to "
            "extract a LoRA from, and LoRA files. Can be repeated.",
            "--models",
            metavar="DIR",
        ),
    ] = None,
    allow_custom_code: Annotated[
        bool,
        typer.Option(
            "--allow-custom-code",
            help="Allow browsers to set plugins and optimizer.class, which run "
            "any code of this machine.",
        ),
    ] = False,
    open_browser: Annotated[
        bool, typer.Option("--open", help="Open a browser on this machine.")
    ] = False,
    plugins: PluginOption = None,
) -> None:
    """Serve the graphical user interface to browsers."""
    with user_errors():
        load_plugins(plugins, installed=True)
        from ..config.plugins import offer_methods
        from ..config.presets import find_config
        from ..ui.web import ServerOptions, serve

        offer_methods()
        options = ServerOptions(
            host=host,
            port=port,
            names=tuple(names or ()),
            datasets=tuple(datasets or ()),
            runs=tuple(runs or ()),
            models=tuple(models or ()),
            allow_custom_code=allow_custom_code,
            open_browser=open_browser,
        )
        serve(find_config(config) if config else None, options)
