"""Check for a display before Qt is started, which aborts without a display."""

from __future__ import annotations

import contextlib
import os
import re
import socket
import struct
import sys
from collections.abc import Mapping, Sequence

from .._exceptions import ConfigError

__all__ = ["check_display", "no_window"]

_PLATFORM = "QT_QPA_PLATFORM"
_SECONDS = 5.0
# First message of an X client: little endian, version 11.0, no authorization.
_HELLO = struct.pack("<BxHHHHxx", ord("l"), 11, 0, 0, 0)


def no_window(reason: str) -> str:
    """Build the error message for a GUI that cannot be opened.

    >>> no_window("no display was found").partition(". ")[0]
    'The GUI cannot be opened: no display was found'
    """
    return (
        f"The GUI cannot be opened: {reason}. Use the command line instead: "
        "stiefel-lora train CONFIG (see stiefel-lora --help)."
    )


def check_display(
    arguments: Sequence[str] = (), environment: Mapping[str, str] = os.environ
) -> None:
    """Raise an error if no X11 or Wayland display is available.

    Args:
        arguments: arguments for Qt. With ``-platform``, the check is skipped.
        environment: environment variables.

    Raises:
        ConfigError: If no display is set, or the X server does not respond.
    """
    if sys.platform in ("win32", "darwin") or "-platform" in arguments:
        return
    platform = environment.get(_PLATFORM, "")
    display = environment.get("DISPLAY", "")
    if platform and platform.partition(":")[0] != "xcb":
        return
    if environment.get("WAYLAND_DISPLAY") and not platform:
        return
    if not display:
        raise ConfigError(
            no_window("no display was found (DISPLAY and WAYLAND_DISPLAY are not set)")
        )
    if not _answers(display):
        raise ConfigError(no_window(f"the display DISPLAY={display} does not respond"))


def _answers(display: str) -> bool:
    """Return whether an X server accepts connections, or True if only Qt can tell."""
    match = re.fullmatch(
        r"(?:unix|([\w.-]*)|\[([\da-fA-F:]+)\]):(\d{1,5})(?:\.\d+)?", display
    )
    if match is None:
        return True
    host, number = match[1] or match[2], int(match[3])
    if host:
        # Send nothing else: sshd warns the user about clients without authorization.
        with contextlib.suppress(OSError, OverflowError):
            socket.create_connection((host, 6000 + number), _SECONDS).close()
            return True
        return False
    path = f"/tmp/.X11-unix/X{number}"
    names = (f"\0{path}", path) if sys.platform == "linux" else (path,)
    return any(_greets(name) for name in names)


def _greets(name: str) -> bool:
    """Return whether a server responds at a local socket."""
    with socket.socket(socket.AF_UNIX) as connection:
        connection.settimeout(_SECONDS)
        try:
            connection.connect(name)
            connection.sendall(_HELLO)
            return bool(connection.recv(1))
        except OSError:
            return False
