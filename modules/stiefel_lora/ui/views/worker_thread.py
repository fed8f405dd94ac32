"""Functions that run one after the other in a thread."""

from __future__ import annotations

from collections.abc import Callable

from PySide6.QtCore import QObject, QRunnable, QThreadPool, Signal

__all__ = ["Background"]


class Background(QObject):
    """Thread that runs functions in order. ``done`` emits the key and the result.

    The functions must not raise and must not use widgets.
    """

    done = Signal(object, object)

    def __init__(self, parent: QObject) -> None:
        super().__init__(parent)
        self._pool = QThreadPool(self)
        self._pool.setMaxThreadCount(1)
        # The thread may outlive this object in Qt, but not a signal that Python holds.
        self._mail = _Mail()
        self._mail.done.connect(self.done)

    def start(self, key: object, function: Callable[[], object]) -> None:
        """Run a function after those that are waiting."""
        self._pool.start(_Work(key, function, self._mail))

    def start_instead(self, key: object, function: Callable[[], object]) -> None:
        """Run a function instead of those that are waiting."""
        self._pool.clear()
        self.start(key, function)

    def clear(self) -> None:
        """Drop the functions that are waiting."""
        self._pool.clear()

    def finish(self) -> None:
        """Stop the thread after the current function."""
        self._pool.clear()
        self._pool.waitForDone()


class _Mail(QObject):
    done = Signal(object, object)


class _Work(QRunnable):
    def __init__(
        self, key: object, function: Callable[[], object], mail: _Mail
    ) -> None:
        super().__init__()
        self._key, self._function, self._mail = key, function, mail

    def run(self) -> None:
        self._mail.done.emit(self._key, self._function())
