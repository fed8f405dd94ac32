"""Tabs whose texts are shown in full."""

from __future__ import annotations

from PySide6.QtCore import QSize
from PySide6.QtWidgets import QStyle, QTabBar, QTabWidget

__all__ = ["Tabs"]


class _Bar(QTabBar):
    """Tab bar with room for the shift of unselected tabs.

    Fusion moves their texts down, where the bar would cut them.
    """

    def tabSizeHint(self, index: int) -> QSize:
        """Return the size of a tab in pixels."""
        shift = QStyle.PixelMetric.PM_TabBarTabShiftVertical
        size = super().tabSizeHint(index)
        extra = 2 * self.style().pixelMetric(shift, None, self)
        return QSize(size.width(), size.height() + extra)


class Tabs(QTabWidget):
    """Tab widget without cut texts."""

    def __init__(self) -> None:
        super().__init__()
        self.setTabBar(_Bar())
