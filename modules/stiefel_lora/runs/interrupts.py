"""Ctrl-C and SIGTERM as a wish that the loop looks at between steps."""

from __future__ import annotations

import signal
import threading
from types import FrameType
from typing import Any

__all__ = ["InterruptWatch"]


class InterruptWatch:
    """Context in which the first Ctrl-C asks for a stop and the second one insists.

    Outside the main thread signals can not be caught; ``wanted`` then stays False.
    """

    def __init__(self) -> None:
        self.wanted = False
        self._before: dict[int, Any] = {}

    def __enter__(self) -> InterruptWatch:
        if threading.current_thread() is threading.main_thread():
            for number in (signal.SIGINT, signal.SIGTERM):
                self._before[number] = signal.signal(number, self._on_signal)
        return self

    def __exit__(self, *exc: object) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)
        self._before.clear()

    def _on_signal(self, number: int, frame: FrameType | None) -> None:
        if self.wanted:
            # The user insists: not even the checkpoint is waited for.
            raise KeyboardInterrupt
        self.wanted = True
