"""Tests with real widgets, without a screen."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from helpers.qt import missing_library


class _Skipped(pytest.Module):
    def collect(self) -> list[pytest.Item]:
        pytest.skip(f"this system lacks a library of Qt: {missing_library()}")


def pytest_pycollect_makemodule(
    module_path: Path, parent: pytest.Collector
) -> pytest.Module | None:
    """Skip every file here where Qt can not be loaded."""
    if missing_library():
        return _Skipped.from_parent(parent, path=module_path)
    return None


@pytest.fixture(autouse=True)
def deleted_windows() -> Iterator[None]:
    """Delete the widgets of a test, which Qt would keep until an event loop runs.

    Each change of the theme styles all of them: it would take longer with every test.
    """
    yield
    from PySide6.QtCore import QCoreApplication, QEvent

    QCoreApplication.sendPostedEvents(None, QEvent.Type.DeferredDelete.value)


@pytest.fixture
def open_window(qtbot, own_home: Path) -> Callable:
    """Open the window as ``stiefel-lora ui`` does."""
    from stiefel_lora.ui.controllers.memory import Memory
    from stiefel_lora.ui.views.app import make_application
    from stiefel_lora.ui.views.window import MainWindow

    make_application()

    def open_(first: bool = False) -> MainWindow:
        memory = Memory.load()
        memory.first = memory.first and first
        window = MainWindow(memory)
        # It imports torch in another process, seconds after a change.
        window.machine.enabled = False
        qtbot.addWidget(window)
        window.restore()
        window.show()
        return window

    return open_
