"""Open the window; everything of Qt is imported here and not before."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from .._exceptions import ConfigError
from .display import check_display, no_window

__all__ = ["launch"]


def launch(config: Path | None = None, arguments: Sequence[str] = ()) -> int:
    """Show the window until it is closed; returns the exit code.

    Args:
        config: file to open; without it the settings of the last time.
        arguments: passed on to Qt.

    Raises:
        ConfigError: Qt is not installed, this system lacks a library that it needs, or
            there is no display.
    """
    check_display(arguments)
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
            no_window(
                f"this system lacks a library that Qt needs ({error}); on Debian and "
                f"Ubuntu: sudo apt install libegl1 libgl1 libxkbcommon0 libfontconfig1 "
                f"libdbus-1-3 libxcb-cursor0"
            )
        ) from error
    return run(config, arguments)
