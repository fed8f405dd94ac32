"""Largest memory of this process; standard library only."""

from __future__ import annotations

import resource
import sys
from pathlib import Path

__all__ = ["peak_memory"]


def peak_memory() -> float:
    """MB (10^6 bytes) that the process had at most since it was started.

    Linux passes the ``ru_maxrss`` of a parent on to a new program, VmHWM not.
    """
    status = Path("/proc/self/status")
    if status.exists():
        (line,) = [x for x in status.read_text().splitlines() if "VmHWM" in x]
        return int(line.split()[1]) * 2**10 / 1e6
    most = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return most * (1 if sys.platform == "darwin" else 2**10) / 1e6
