"""Checks of the model, memory and hardware in a separate process.

They require torch, which the process of the GUI does not import.
"""

from __future__ import annotations

import contextlib
from typing import Any

from PySide6.QtCore import QObject, QTimer, Signal

from ..._exceptions import OutputError
from ..controllers.findings import Findings
from ..controllers.machine_result import MachineResult
from ..controllers.memory import home
from .command_process import CommandProcess

__all__ = ["MachineCheck"]

# Milliseconds after the last change before the process is started.
_WAIT_MS = 2000


class MachineCheck(QObject):
    """Run ``stiefel-lora validate`` for settings that have no other errors.

    ``checked`` is emitted when there is a result for the last settings.
    """

    checked = Signal()

    def __init__(self, parent: QObject) -> None:
        super().__init__(parent)
        self.enabled = True
        self._result = MachineResult()
        self._process = CommandProcess(self)
        self._process.ended.connect(self._ended)
        self._timer = QTimer(self, singleShot=True, interval=_WAIT_MS)
        self._timer.timeout.connect(self._start)

    def add_to(self, findings: Findings, data: dict[str, Any], method: str) -> Findings:
        """Add the result for ``data``, or order a check if there is none yet.

        Args:
            findings: errors and warnings of the settings.
            data: the settings.
            method: name of the selected optimizer.
        """
        merged = self._result.merged(findings, data, method)
        if merged is not None:
            return merged
        if findings.config is None or not findings.ready or not self.enabled:
            self._timer.stop()
        elif self._result.want(findings, data):
            self._timer.start()
        return findings

    def forget(self) -> None:
        """Forget the result, so that the same settings are checked again."""
        self._result.forget()

    def stop(self) -> None:
        """End the process."""
        self._timer.stop()
        self._process.stop()

    def _start(self) -> None:
        if self._result.wanted is None:
            return
        self._process.stop()
        with contextlib.suppress(OutputError):
            command = self._result.command(home() / "check.json")
            if command is not None:
                self._process.start(command)

    def _ended(self, code: int, output: str, _errors: str) -> None:
        if self._result.take(output):
            self.checked.emit()
