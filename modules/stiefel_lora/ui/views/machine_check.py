"""Checks of the model, memory and hardware in a separate process.

They require torch, which the process of the GUI does not import.
"""

from __future__ import annotations

import contextlib
import json
import sys
from typing import Any

from PySide6.QtCore import QObject, QTimer, Signal

from ..._exceptions import OutputError
from ...config import TrainConfig
from ...config.dump import dump_lean
from ...files.atomic import atomic_write
from ..controllers.findings import Findings, with_machine
from ..controllers.memory import home
from .command_process import CommandProcess

__all__ = ["MachineCheck"]

# Milliseconds after the last change before the process is started.
_WAIT_MS = 2000

Data = dict[str, Any]


class MachineCheck(QObject):
    """Run ``stiefel-lora validate`` for settings that have no other errors.

    ``checked`` is emitted when there is a result for the last settings.
    """

    checked = Signal()

    def __init__(self, parent: QObject) -> None:
        super().__init__(parent)
        self.enabled = True
        self._wanted: tuple[Data, TrainConfig] | None = None
        self._running: Data | None = None
        self._result: tuple[Data, dict[str, list[dict[str, str]]]] | None = None
        self._process = CommandProcess(self)
        self._process.ended.connect(self._ended)
        self._timer = QTimer(self, singleShot=True, interval=_WAIT_MS)
        self._timer.timeout.connect(self._start)

    def add_to(self, findings: Findings, data: Data, method: str) -> Findings:
        """Add the result for ``data``, or order a check if there is none yet.

        Args:
            findings: errors and warnings of the settings.
            data: the settings.
            method: name of the selected optimizer.
        """
        if self._result is not None and self._result[0] == data:
            return with_machine(findings, self._result[1], method)
        if findings.config is None or not findings.ready or not self.enabled:
            self._timer.stop()
        elif data != self._running:
            self._wanted = data, findings.config
            self._timer.start()
        return findings

    def forget(self) -> None:
        """Forget the result, so that the same settings are checked again."""
        self._result = None

    def stop(self) -> None:
        """End the process."""
        self._timer.stop()
        self._process.stop()

    def _start(self) -> None:
        if self._wanted is None:
            return
        self._process.stop()
        self._running, config = self._wanted
        path = home() / "check.json"
        with contextlib.suppress(OutputError):
            with atomic_write(path) as part:
                part.write_text(dump_lean(config), encoding="utf-8", newline="\n")
            command = [sys.executable, "-m", "stiefel_lora", "validate", str(path)]
            self._process.start([*command, "--json"])

    def _ended(self, code: int, output: str, _errors: str) -> None:
        running, self._running = self._running, None
        try:
            found = json.loads(output)
        # A process that was killed for lack of memory gives no result.
        except ValueError:
            return
        if running is not None:
            self._result = running, found
            self.checked.emit()
