from __future__ import annotations

import sys

from PySide6.QtCore import QObject, Signal


class Sender(QObject):
    sent = Signal(object)


def test_this_build_of_qt_keeps_its_references():
    """PySide6 6.12.0 lost one to True at every emit, until the process died."""
    sender = Sender()
    sender.sent.connect(lambda value: None)
    before = [sys.getrefcount(value) for value in (None, True, False)]
    for _ in range(100):
        sender.sent.emit(None)
    after = [sys.getrefcount(value) for value in (None, True, False)]
    assert max(abs(a - b) for a, b in zip(after, before, strict=True)) < 50
