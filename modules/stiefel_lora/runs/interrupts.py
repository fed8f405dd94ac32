"""Handling of Ctrl-C and SIGTERM as a request to stop a training or batch."""

from __future__ import annotations

import signal
import threading
from collections.abc import Callable
from types import FrameType
from typing import Any

__all__ = ["InterruptWatch"]


class InterruptWatch:
    """Context manager: the first signal requests a stop, the second one aborts.

    Outside of the main thread, signals cannot be handled and ``wanted`` is always
    False.

    Args:
        on_first: function that is called on the first signal.
    """

    def __init__(self, on_first: Callable[[], None] | None = None) -> None:
        self.wanted = False
        """True if a signal was received."""

        self._on_first = on_first
        self._before: dict[int, Any] = {}

    def __enter__(self) -> InterruptWatch:
        # Python only allows handlers in the main thread, not in those of a GUI.
        if threading.current_thread() is threading.main_thread():
            for number in (signal.SIGINT, signal.SIGTERM):
                self._before[number] = signal.signal(number, self._on_signal)
        return self

    def __exit__(self, *exc: object) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)
        self._before.clear()

    def ignore(self) -> None:
        """Ignore further signals, also after the ``with`` block."""
        for number in self._before:
            signal.signal(number, signal.SIG_IGN)
        self._before.clear()

    def _on_signal(self, number: int, frame: FrameType | None) -> None:
        if self.wanted:
            # Second signal: stop at once, without waiting for a checkpoint.
            raise KeyboardInterrupt
        self.wanted = True
        if self._on_first is not None:
            self._on_first()
