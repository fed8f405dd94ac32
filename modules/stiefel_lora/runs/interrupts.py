"""Ctrl-C and SIGTERM as a request to stop, for one training and for a batch."""

from __future__ import annotations

import signal
import threading
from collections.abc import Callable
from types import FrameType
from typing import Any

__all__ = ["InterruptWatch"]


class InterruptWatch:
    """Context in which the first signal requests a stop and the second one ends it.

    Outside the main thread signals cannot be caught; ``wanted`` then stays False.

    Args:
        on_first: called within the handler of the first signal.
    """

    def __init__(self, on_first: Callable[[], None] | None = None) -> None:
        self.wanted = False
        """Whether there was a signal."""

        self._on_first = on_first
        self._before: dict[int, Any] = {}

    def __enter__(self) -> InterruptWatch:
        # Python refuses handlers in other threads, as those of a window.
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
            # The user insists: not even a checkpoint is waited for.
            raise KeyboardInterrupt
        self.wanted = True
        if self._on_first is not None:
            self._on_first()
