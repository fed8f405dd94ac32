"""Result of ``stiefel-lora validate`` for the settings that were checked last.

The command checks the model, memory and hardware. It requires torch, which the process
of the GUI does not import.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

from ...config import TrainConfig
from ...config.dump import dump_lean
from ...files.atomic import atomic_write
from .findings import Findings, with_machine

__all__ = ["MachineResult"]

Data = dict[str, Any]


class MachineResult:
    """Settings to check, those that are being checked, and the last result."""

    def __init__(self) -> None:
        self.wanted: tuple[Data, TrainConfig] | None = None
        """Settings that are checked next."""

        self._running: Data | None = None
        self._result: tuple[Data, dict[str, list[dict[str, str]]]] | None = None

    def merged(self, findings: Findings, data: Data, method: str) -> Findings | None:
        """Add the result for ``data``. None if there is none yet.

        Args:
            findings: errors and warnings of the settings.
            data: the settings.
            method: name of the selected optimizer.
        """
        if self._result is None or self._result[0] != data:
            return None
        return with_machine(findings, self._result[1], method)

    def want(self, findings: Findings, data: Data) -> bool:
        """Order a check. Return whether it is possible and not running already."""
        if findings.config is None or not findings.ready or data == self._running:
            return False
        self.wanted = data, findings.config
        return True

    def command(self, path: Path) -> list[str] | None:
        """Return the command that checks the settings, or None without any.

        Args:
            path: file to which the settings are written.

        Raises:
            OutputError: If the file cannot be written.
        """
        if self.wanted is None:
            return None
        self._running, config = self.wanted
        with atomic_write(path) as part:
            part.write_text(dump_lean(config), encoding="utf-8", newline="\n")
        return [sys.executable, "-m", "stiefel_lora", "validate", str(path), "--json"]

    def take(self, output: str) -> bool:
        """Take the output of the command. Return whether there is a result."""
        running, self._running = self._running, None
        try:
            found = json.loads(output)
        # A process that was killed for lack of memory gives no result.
        except ValueError:
            return False
        if running is None:
            return False
        self._result = running, found
        return True

    def forget(self) -> None:
        """Forget the result, so that the same settings are checked again."""
        self._result = None
