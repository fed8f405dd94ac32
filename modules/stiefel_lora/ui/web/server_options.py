"""Options of the server."""

from __future__ import annotations

import dataclasses
from pathlib import Path

__all__ = ["ServerOptions"]


@dataclasses.dataclass(frozen=True)
class ServerOptions:
    """Options of the server.

    Attributes:
        host: address on which it listens.
        port: port on which it listens.
        names: host names of proxies in front of it.
        datasets: folders whose images are shown.
        runs: folders whose subfolders are listed as runs, besides those of the queue.
        models: folders with models and LoRA files that browsers may use.
        allow_custom_code: whether plugins and optimizer classes can be set.
        open_browser: whether to open a browser on this machine.
    """

    host: str = "127.0.0.1"
    port: int = 7865
    names: tuple[str, ...] = ()
    datasets: tuple[Path, ...] = ()
    runs: tuple[Path, ...] = ()
    models: tuple[Path, ...] = ()
    allow_custom_code: bool = False
    open_browser: bool = False
