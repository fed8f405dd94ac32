"""Whether there is a display for the window; asked before Qt, which would abort."""

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
    """Sentence for a window that cannot be opened.

    >>> no_window("there is no display").partition(". ")[0]
    'The window can not be opened: there is no display'
    """
    return (
        f"The window can not be opened: {reason}. The command line does the same "
        f"without one: stiefel-lora train CONFIG (stiefel-lora --help lists the rest)."
    )


def check_display(
    arguments: Sequence[str] = (), environment: Mapping[str, str] = os.environ
) -> None:
    """Refuse to open a window where no display answers; X11 and Wayland alone.

    Args:
        arguments: those for Qt; ``-platform`` among them is left to Qt.
        environment: variables of the process.

    Raises:
        ConfigError: no display is set, or the X server does not answer.
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
            no_window("there is no display (DISPLAY and WAYLAND_DISPLAY are not set)")
        )
    if not _answers(display):
        raise ConfigError(no_window(f"the display DISPLAY={display} does not answer"))


def _answers(display: str) -> bool:
    """Whether an X server takes a connection; True for what Qt must judge itself."""
    match = re.fullmatch(
        r"(?:unix|([\w.-]*)|\[([\da-fA-F:]+)\]):(\d{1,5})(?:\.\d+)?", display
    )
    if match is None:
        return True
    host, number = match[1] or match[2], int(match[3])
    if host:
        # Not a word more: sshd reports clients without authorization to the user.
        with contextlib.suppress(OSError, OverflowError):
            socket.create_connection((host, 6000 + number), _SECONDS).close()
            return True
        return False
    path = f"/tmp/.X11-unix/X{number}"
    names = (f"\0{path}", path) if sys.platform == "linux" else (path,)
    return any(_greets(name) for name in names)


def _greets(name: str) -> bool:
    """Whether the server behind a local socket says anything, a refusal included."""
    with socket.socket(socket.AF_UNIX) as connection:
        connection.settimeout(_SECONDS)
        try:
            connection.connect(name)
            connection.sendall(_HELLO)
            return bool(connection.recv(1))
        except OSError:
            return False
