"""Start of the GUI. This module imports Qt when it is used."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from .._exceptions import ConfigError
from .._install import install_command
from .display import check_display, no_window

__all__ = ["launch"]


def launch(config: Path | None = None, arguments: Sequence[str] = ()) -> int:
    """Run the GUI until it is closed. Return the exit code.

    Args:
        config: config file to open. By default, the settings of the last session are
            loaded.
        arguments: arguments for Qt.

    Raises:
        ConfigError: If Qt or a required system library is not installed, or there is no
            display.
    """
    check_display(arguments)
    try:
        from .views.app import run
    except ModuleNotFoundError as error:
        package = (error.name or "").partition(".")[0]
        if package not in ("PySide6", "pyqtgraph", "numpy"):
            raise
        raise ConfigError(
            f"The GUI needs the package {package}, which is not installed. "
            f"Install it with: {install_command('train', 'ui')}"
        ) from error
    except ImportError as error:
        raise ConfigError(
            no_window(
                f"a system library that Qt needs is missing ({error}). On Debian and "
                "Ubuntu, install: sudo apt install libegl1 libgl1 libxkbcommon0 "
                "libfontconfig1 libdbus-1-3 libxcb-cursor0"
            )
        ) from error
    return run(config, arguments)
