"""Dialog with the differences between the settings and the preset."""

from __future__ import annotations

from PySide6.QtCore import Qt
from PySide6.QtWidgets import (
    QAbstractItemView,
    QDialog,
    QDialogButtonBox,
    QHeaderView,
    QLabel,
    QPushButton,
    QTableWidget,
    QTableWidgetItem,
    QVBoxLayout,
    QWidget,
)

from ..controllers.document import Document
from ..controllers.preset_differences import (
    HEADINGS,
    Difference,
    count_of_differences,
    differences,
)

__all__ = ["DifferenceDialog"]


class DifferenceDialog(QDialog):
    """Dialog with a table of settings that differ from the preset."""

    def __init__(self, document: Document, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self.setWindowTitle("Differences from the preset")
        self._document = document
        self._found: list[Difference] = []
        self.title = QLabel()
        self.title.setWordWrap(True)
        self.table = QTableWidget(0, len(HEADINGS))
        self.table.setHorizontalHeaderLabels(HEADINGS)
        self.table.verticalHeader().hide()
        self.table.setEditTriggers(QAbstractItemView.EditTrigger.NoEditTriggers)
        self.table.setSelectionBehavior(QAbstractItemView.SelectionBehavior.SelectRows)
        self.table.setWordWrap(True)
        header = self.table.horizontalHeader()
        header.setSectionResizeMode(QHeaderView.ResizeMode.Stretch)
        self.back = QPushButton("Reset to preset")
        self.back.setToolTip(
            "Reset the selected settings to their values in the preset"
        )
        self.back.clicked.connect(self._reset)
        buttons = QDialogButtonBox(QDialogButtonBox.StandardButton.Close)
        buttons.addButton(self.back, QDialogButtonBox.ButtonRole.ActionRole)
        buttons.rejected.connect(self.reject)
        column = QVBoxLayout(self)
        for widget in (self.title, self.table, buttons):
            column.addWidget(widget)
        letter = self.fontMetrics().averageCharWidth()
        self.resize(letter * 100, self.fontMetrics().lineSpacing() * 24)
        self._fill()

    def _fill(self) -> None:
        self._found = differences(self._document)
        count = len(self._found)
        self.title.setText(count_of_differences(self._document, count))
        self.back.setEnabled(bool(self._found))
        self.table.setRowCount(count)
        for row, found in enumerate(self._found):
            for column, text in enumerate((found.label, found.before, found.now)):
                item = QTableWidgetItem(text)
                item.setToolTip(text)
                item.setTextAlignment(
                    Qt.AlignmentFlag.AlignLeft | Qt.AlignmentFlag.AlignTop
                )
                self.table.setItem(row, column, item)
        self.table.resizeRowsToContents()

    def _reset(self) -> None:
        rows = {index.row() for index in self.table.selectedIndexes()}
        for key in {self._found[row].key for row in rows}:
            self._document.reset(key)
        self._fill()
