"""Open the window; everything of Qt is imported here and not before."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from .._exceptions import ConfigError

__all__ = ["launch"]


def launch(config: Path | None = None, arguments: Sequence[str] = ()) -> int:
    """Show the window until it is closed; returns the exit code.

    Args:
        config: file to open; without it the settings of the last time.
        arguments: passed on to Qt.

    Raises:
        ConfigError: Qt is not installed, or this system lacks a library that it needs.
    """
    try:
        from .views.app import run
    except ModuleNotFoundError as error:
        package = (error.name or "").partition(".")[0]
        if package not in ("PySide6", "pyqtgraph", "numpy"):
            raise
        raise ConfigError(
            f"The window needs the package {package}, which is not installed: "
            f'pip install "stiefel-lora[train,ui]".'
        ) from error
    except ImportError as error:
        raise ConfigError(
            f"The window can not be opened, because this system lacks a library that "
            f"Qt needs ({error}). On Debian and Ubuntu: sudo apt install libegl1 "
            f"libgl1 libxkbcommon0 libfontconfig1 libdbus-1-3 libxcb-cursor0."
        ) from error
    return run(config, arguments)
