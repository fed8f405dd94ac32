"""Error message if Qt aborts because there is no display."""

from __future__ import annotations

import os
import sys
from typing import Any, NoReturn

from PySide6.QtCore import QtMsgType, qInstallMessageHandler

from ..display import no_window

__all__ = ["StartGuard"]

BAD_INPUT = 2


class StartGuard:
    """Context manager for the creation of the application.

    Qt aborts the process in its constructor. This class prints an error message and
    exits when Qt logs its last message before.
    """

    def __init__(self) -> None:
        self._messages: list[str] = []

    def __enter__(self) -> StartGuard:
        self._before = qInstallMessageHandler(self._take)
        return self

    def __exit__(self, *exc: object) -> None:
        qInstallMessageHandler(self._before)
        for message in self._messages:
            print(message, file=sys.stderr)

    def _take(self, kind: QtMsgType, context: Any, message: str) -> None:
        if kind is QtMsgType.QtFatalMsg:
            self._end(message)
        self._messages.append(message)

    def _end(self, message: str) -> NoReturn:
        # The first message contains the cause; the fatal one lists packages to
        # reinstall.
        reason = (self._messages or [message])[0].strip().splitlines()[0].rstrip(".")
        print(no_window(reason), file=sys.stderr, flush=True)
        os._exit(BAD_INPUT)
