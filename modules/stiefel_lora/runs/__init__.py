"""Run folders: layout, lock, events and commands. Does not import torch."""

from __future__ import annotations

from .commands import send_command
from .events import current_events, read_events
from .result import TrainResult
from .run_folder import RunFolder
from .run_lock import hold_run

__all__ = [
    "RunFolder",
    "TrainResult",
    "current_events",
    "hold_run",
    "read_events",
    "send_command",
]
