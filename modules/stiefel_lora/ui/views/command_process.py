"""Execution of commands in a separate process."""

from __future__ import annotations

from collections.abc import Sequence

from PySide6.QtCore import QObject, QProcess, Signal
from shiboken6 import isValid

__all__ = ["CommandProcess"]

_KILL_MS = 1000


class CommandProcess(QObject):
    """Run a command at a time. ``ended`` emits the exit code, output and errors.

    Signals are only connected to methods of this object. Qt disconnects them before the
    object and its process are deleted, while other functions could still be called for
    a deleted process.
    """

    ended = Signal(int, str, str)

    def __init__(self, parent: QObject) -> None:
        super().__init__(parent)
        self._process: QProcess | None = None

    @property
    def is_running(self) -> bool:
        """Return whether a command is running."""
        return self._process is not None

    def start(self, command: Sequence[str]) -> None:
        """Start a command. No other command may be running."""
        assert self._process is None
        self._process = QProcess(self)
        self._process.finished.connect(self._finished)
        self._process.errorOccurred.connect(self._failed)
        self._process.start(command[0], list(command[1:]))

    def stop(self) -> None:
        """Kill the running command. ``ended`` is not emitted."""
        process = self._take()
        if process is not None:
            process.kill()
            process.waitForFinished(_KILL_MS)

    def _finished(self, code: int, status: QProcess.ExitStatus) -> None:
        process = self._take()
        if process is None:
            return
        output, errors = (
            bytes(data.data()).decode(errors="replace")
            for data in (
                process.readAllStandardOutput(),
                process.readAllStandardError(),
            )
        )
        if status is QProcess.ExitStatus.CrashExit:
            errors = errors.strip() or "The process was terminated."
            code = code or -1
        self.ended.emit(code, output, errors.strip())

    def _failed(self, error: QProcess.ProcessError) -> None:
        # After all other errors, ``finished`` is emitted.
        if error is QProcess.ProcessError.FailedToStart:
            process = self._take()
            reason = process.errorString() if process is not None else ""
            self.ended.emit(-1, "", f"The process could not be started: {reason}.")

    def _take(self) -> QProcess | None:
        """Return the process and disconnect it from this object.

        None if Qt has already deleted it, together with the window.
        """
        process, self._process = self._process, None
        if process is None or not isValid(process):
            return None
        process.deleteLater()
        return process
