"""Qt application: style, locale, theme and main window."""

from __future__ import annotations

import locale
import signal
from collections.abc import Sequence
from pathlib import Path

from PySide6.QtCore import QLocale, QTimer
from PySide6.QtWidgets import QApplication

from ..controllers.memory import Memory
from .start_guard import StartGuard
from .theme import apply_theme
from .window import MainWindow

__all__ = ["make_application", "run"]


def make_application(arguments: Sequence[str] = ()) -> QApplication:
    """Return the application, with the same style and locale on every system."""
    with StartGuard():
        app = QApplication.instance() or QApplication(["stiefel-lora", *arguments])
    assert isinstance(app, QApplication)
    app.setStyle("Fusion")
    app.setApplicationName("stiefel-lora")
    app.setApplicationDisplayName("Stiefel LoRA")
    # Qt uses the locale of the system, but numbers in files have a decimal point.
    QLocale.setDefault(QLocale.c())
    locale.setlocale(locale.LC_NUMERIC, "C")
    return app


def run(config: Path | None, arguments: Sequence[str]) -> int:
    """Show the main window until it is closed."""
    app = make_application(arguments)
    memory = Memory.load()
    apply_theme(memory.theme)
    window = MainWindow(memory)
    window.restore()
    window.fit_into(window.screen().availableSize())
    window.show()
    if config is not None:
        window.open_file(config)
    signal.signal(signal.SIGINT, lambda *_: window.close())
    # The timer lets the Python interpreter run, so that it receives Ctrl-C.
    waker = QTimer(window, interval=500)
    waker.timeout.connect(lambda: None)
    waker.start()
    return app.exec()
