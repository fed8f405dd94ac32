"""Start of the server. This module imports NiceGUI when it is used."""

from __future__ import annotations

from pathlib import Path

from ..._exceptions import ConfigError
from ..._install import install_command

__all__ = ["serve"]

_PACKAGES = ("nicegui", "fastapi", "starlette", "uvicorn", "socketio", "engineio")


def serve(
    config: Path | None = None, *, host: str = "127.0.0.1", port: int = 7865
) -> None:
    """Run the server until it is interrupted.

    Args:
        config: config file to open. By default, the settings of the last session are
            loaded.
        host: address on which the server listens.
        port: port on which the server listens.

    Raises:
        ConfigError: If NiceGUI is not installed.
    """
    try:
        from .server import run
    except ModuleNotFoundError as error:
        package = (error.name or "").partition(".")[0]
        if package not in _PACKAGES:
            raise
        raise ConfigError(
            f"The interface in the browser needs the package {package}, which is not "
            f"installed. Install it with: {install_command('train', 'web')}"
        ) from error
    run(config, host=host, port=port)
