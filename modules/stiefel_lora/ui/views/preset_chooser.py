"""Button that shows the current preset and opens the list of presets."""

from __future__ import annotations

from pathlib import Path

from PySide6.QtCore import QEvent, QObject, QPoint, Qt, Signal
from PySide6.QtGui import QKeyEvent
from PySide6.QtWidgets import (
    QFrame,
    QLineEdit,
    QListWidget,
    QListWidgetItem,
    QPushButton,
    QVBoxLayout,
)

from ..controllers.library import entries, preset_title

__all__ = ["PresetChooser", "PresetList"]

_PATH = Qt.ItemDataRole.UserRole


class PresetList(QFrame):
    """List of presets with a search field. Enter or a click selects a preset."""

    chosen = Signal(Path)

    def __init__(self) -> None:
        super().__init__(None, Qt.WindowType.Popup)
        self.setFrameShape(QFrame.Shape.StyledPanel)
        self.search = QLineEdit()
        self.search.setPlaceholderText("Search presets")
        self.search.setClearButtonEnabled(True)
        self.search.textChanged.connect(self._fill)
        self.search.installEventFilter(self)
        self.list = QListWidget()
        self.list.setWordWrap(True)
        self.list.setAlternatingRowColors(True)
        self.list.itemActivated.connect(self._take)
        self.list.itemClicked.connect(self._take)
        self.search.returnPressed.connect(self._take_current)
        column = QVBoxLayout(self)
        column.addWidget(self.search)
        column.addWidget(self.list)
        letter = self.fontMetrics().averageCharWidth()
        self.resize(letter * 76, self.fontMetrics().lineSpacing() * 24)

    def open_at(self, place: QPoint) -> None:
        """Open the list with all presets."""
        self.search.clear()
        self._fill("")
        self.move(place)
        self.show()
        self.search.setFocus()

    def eventFilter(self, watched: QObject, event: QEvent) -> bool:
        """Forward arrow keys from the search field to the list."""
        moves = (Qt.Key.Key_Up, Qt.Key.Key_Down)
        pressed = event.type() == QEvent.Type.KeyPress
        if pressed and isinstance(event, QKeyEvent) and event.key() in moves:
            step = 1 if event.key() == Qt.Key.Key_Down else -1
            row = self.list.currentRow() + step
            self.list.setCurrentRow(max(0, min(row, self.list.count() - 1)))
            return True
        return super().eventFilter(watched, event)

    def _fill(self, words: str) -> None:
        self.list.clear()
        for entry in entries(words):
            item = QListWidgetItem(f"{entry.name}  ·  {entry.group}\n{entry.summary}")
            item.setData(_PATH, str(entry.path))
            self.list.addItem(item)
        self.list.setCurrentRow(0)

    def _take_current(self) -> None:
        item = self.list.currentItem()
        if item is not None:
            self._take(item)

    def _take(self, item: QListWidgetItem) -> None:
        self.hide()
        self.chosen.emit(Path(item.data(_PATH)))


class PresetChooser(QPushButton):
    """Button with the name of the current preset."""

    chosen = Signal(Path)

    def __init__(self) -> None:
        super().__init__()
        self.setAccessibleName("Choose a preset")
        self.setToolTip("Choose a preset (Ctrl+P)")
        self.list = PresetList()
        self.list.chosen.connect(self.chosen)
        self.clicked.connect(self.open_list)
        self.show_name(None, changed=False)

    def open_list(self) -> None:
        """Open the list under the button."""
        self.list.open_at(self.mapToGlobal(QPoint(0, self.height())))

    def show_name(self, source: Path | None, *, changed: bool) -> None:
        """Show the name of the preset, and whether settings have been changed."""
        self.setText(f"{preset_title(source, changed=changed)}  ▾")
