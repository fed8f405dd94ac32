"""Processes that outlive the one that started them."""

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

# Two readings of one process's start may differ by rounding and by the clock being set.
_SAME_START = 2.0


def start_detached(
    module: str, arguments: Sequence[str], log: Path, env: Mapping[str, str] = {}
) -> subprocess.Popen[bytes]:
    """Run ``python -m module`` with its output appended to ``log``.

    The process has no terminal: neither Ctrl-C nor a closed window reaches it.

    Raises:
        OutputError: the log can not be written, or no process can be started.
    """
    try:
        log.parent.mkdir(parents=True, exist_ok=True)
        with log.open("ab") as output:
            return subprocess.Popen(
                [sys.executable, "-m", module, *arguments],
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                env={**os.environ, **env},
                **_detached(),
            )
    except OSError as error:
        raise OutputError(
            f"No process could be started with its log in {log} ({error.strerror})."
        ) from error


def _detached() -> dict[str, Any]:
    if sys.platform == "win32":
        flags = subprocess.CREATE_NEW_PROCESS_GROUP | subprocess.CREATE_NO_WINDOW
        return {"creationflags": flags}
    return {"start_new_session": True}


def birth(pid: int) -> float | None:
    """When the process began, in seconds since 1970; None where there is none."""
    try:
        return psutil.Process(pid).create_time()
    except psutil.Error:
        return None


def send_end(pid: int | None, started: float | None, *, force: bool = False) -> bool:
    """End a process if it still is the one that began at ``started``.

    Args:
        pid: its number.
        started: what ``birth`` said when it was young.
        force: leave it no time to tidy up.

    Returns:
        Whether there was such a process.
    """
    if pid is None or started is None:
        return False
    with contextlib.suppress(psutil.Error):
        process = psutil.Process(pid)
        if abs(process.create_time() - started) < _SAME_START:
            process.kill() if force else process.terminate()
            return True
    return False
