"""Execution of commands in a separate process."""

from __future__ import annotations

from collections.abc import Sequence

from PySide6.QtCore import QObject, QProcess, Signal
from shiboken6 import isValid

__all__ = ["CommandProcess"]

_KILL_MS = 1000


class CommandProcess(QObject):
    """Run a command at a time. ``ended`` emits the exit code, output and errors.

    ``printed`` emits whole lines of the output while the command is running.

    Signals are only connected to methods of this object. Qt disconnects them before the
    object and its process are deleted, while other functions could still be called for
    a deleted process.
    """

    ended = Signal(int, str, str)
    printed = Signal(str)

    def __init__(self, parent: QObject) -> None:
        super().__init__(parent)
        self._process: QProcess | None = None
        self._output = b""
        self._reported = 0

    @property
    def is_running(self) -> bool:
        """Return whether a command is running."""
        return self._process is not None

    def start(self, command: Sequence[str]) -> None:
        """Start a command. No other command may be running."""
        assert self._process is None
        self._process = QProcess(self)
        self._output, self._reported = b"", 0
        self._process.readyReadStandardOutput.connect(self._read)
        self._process.finished.connect(self._finished)
        self._process.errorOccurred.connect(self._failed)
        self._process.start(command[0], list(command[1:]))

    def stop(self) -> None:
        """Kill the running command. ``ended`` is not emitted."""
        process = self._take()
        if process is not None:
            process.kill()
            process.waitForFinished(_KILL_MS)

    def _read(self) -> None:
        """Read the output, and report the lines that are complete."""
        if self._process is None or not isValid(self._process):
            return
        self._output += bytes(self._process.readAllStandardOutput().data())
        end = self._output.rfind(b"\n") + 1
        if end > self._reported:
            text = self._output[self._reported : end].decode(errors="replace")
            self._reported = end
            self.printed.emit(text)

    def _finished(self, code: int, status: QProcess.ExitStatus) -> None:
        self._read()
        process = self._take()
        if process is None:
            return
        output = self._output.decode(errors="replace")
        data = process.readAllStandardError()
        errors = bytes(data.data()).decode(errors="replace")
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
