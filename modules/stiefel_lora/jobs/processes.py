"""Detached processes, which continue when the parent process exits."""

from __future__ import annotations

import contextlib
import os
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import psutil

from .._exceptions import OutputError

__all__ = ["birth", "send_end", "start_detached"]

# Two readings of a start time may differ by rounding and clock adjustments.
_SAME_START = 2.0


def start_detached(
    module: str,
    arguments: Sequence[str],
    log: Path,
    env: Mapping[str, str] = {},
    *,
    piped: bool = False,
) -> subprocess.Popen[bytes]:
    """Run ``python -m module`` with its output appended to ``log``.

    The process has no terminal and is not affected by Ctrl-C or closing the terminal.

    Args:
        module: name of the module.
        arguments: its arguments.
        log: file for standard output and errors.
        env: changes of the environment.
        piped: whether standard input and output are pipes, so that only errors are
            written to ``log``.

    Raises:
        OutputError: If the log cannot be written, or the process cannot be started.
    """
    try:
        log.parent.mkdir(parents=True, exist_ok=True)
        with log.open("ab") as output:
            return subprocess.Popen(
                [sys.executable, "-m", module, *arguments],
                stdin=subprocess.PIPE if piped else subprocess.DEVNULL,
                stdout=subprocess.PIPE if piped else output,
                stderr=output,
                env={**os.environ, **env},
                **_detached(),
            )
    except OSError as error:
        raise OutputError(
            f"The process could not be started with its log in {log} "
            f"({error.strerror}). Check the folder and the free memory."
        ) from error


def _detached() -> dict[str, Any]:
    if sys.platform == "win32":
        flags = subprocess.CREATE_NEW_PROCESS_GROUP | subprocess.CREATE_NO_WINDOW
        return {"creationflags": flags}
    return {"start_new_session": True}


def birth(pid: int) -> float | None:
    """Return the start time of a process in seconds since 1970, or None if it ended."""
    try:
        return psutil.Process(pid).create_time()
    except psutil.Error:
        return None


def send_end(pid: int | None, started: float | None, *, force: bool = False) -> bool:
    """Terminate a process if it is still the one that started at ``started``.

    Args:
        pid: process ID.
        started: result of :func:`birth` after the process was started.
        force: whether to kill the process immediately.

    Returns:
            Whether the process existed.
    """
    if pid is None or started is None:
        return False
    with contextlib.suppress(psutil.Error):
        # The system reuses process IDs, so the time of the start must match, too.
        process = psutil.Process(pid)
        if abs(process.create_time() - started) < _SAME_START:
            process.kill() if force else process.terminate()
            return True
    return False
