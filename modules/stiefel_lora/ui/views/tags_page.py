"""Page with the tags of a folder and the number of images of each."""

from __future__ import annotations

from collections.abc import Iterable

from PySide6.QtCore import Qt, Signal
from PySide6.QtGui import QShowEvent
from PySide6.QtWidgets import (
    QHBoxLayout,
    QHeaderView,
    QInputDialog,
    QLineEdit,
    QPushButton,
    QTableWidget,
    QTableWidgetItem,
    QVBoxLayout,
    QWidget,
)

from ..._wording import counted
from ...data.caption_edits import tag_counts
from .basics import Note
from .theme import QUIET

__all__ = ["TagsPage"]

# Maximum number of tags in the table. More do not help, and filling it takes time.
_MOST = 2000


class TagsPage(QWidget):
    """Table of tags.

    ``shown`` emits a tag whose images are to be shown, ``renamed`` a tag and its new
    name, and ``removed`` a tag.
    """

    shown = Signal(str)
    renamed = Signal(str, str)
    removed = Signal(str)

    def __init__(self) -> None:
        super().__init__()
        self.search = QLineEdit()
        self.search.setPlaceholderText("Search tags")
        self.search.setAccessibleName("Search tags")
        self.search.setClearButtonEnabled(True)
        self.search.textChanged.connect(self._fill)
        self.table = QTableWidget(0, 2)
        self.table.setHorizontalHeaderLabels(["Tag", "Images"])
        self.table.verticalHeader().hide()
        self.table.setAccessibleName("Tags")
        self.table.setTabKeyNavigation(False)
        self.table.setEditTriggers(QTableWidget.EditTrigger.NoEditTriggers)
        self.table.setSelectionBehavior(QTableWidget.SelectionBehavior.SelectRows)
        self.table.setSelectionMode(QTableWidget.SelectionMode.SingleSelection)
        self.table.horizontalHeader().setSectionResizeMode(
            0, QHeaderView.ResizeMode.Stretch
        )
        self.table.itemSelectionChanged.connect(self._allow)
        self.table.itemActivated.connect(lambda _: self._show())
        self.note = Note()
        self.buttons = {
            "Show images": QPushButton("Show images"),
            "Rename": QPushButton("Rename…"),
            "Remove": QPushButton("Remove"),
        }
        calls = (self._show, self._rename, self._remove)
        for button, call in zip(self.buttons.values(), calls, strict=True):
            button.clicked.connect(call)
        self._captions: list[str] = []
        self._delimiter, self._locked, self._stale = ",", False, True
        self._counts: dict[str, int] = {}
        self._arrange()

    def show_captions(
        self, captions: Iterable[str], delimiter: str, locked: bool
    ) -> None:
        """Show the tags of captions.

        Args:
            captions: the captions.
            delimiter: separator of tags.
            locked: whether captions cannot be edited.
        """
        self._captions, self._delimiter = list(captions), delimiter
        self._locked, self._stale = locked, True
        if self.isVisible():
            self._count()

    def showEvent(self, event: QShowEvent) -> None:
        """Count the tags when the page is shown."""
        super().showEvent(event)
        if self._stale:
            self._count()

    @property
    def tag(self) -> str:
        """Selected tag, or ""."""
        row = self.table.currentRow()
        item = self.table.item(row, 0) if self.table.selectedItems() else None
        return "" if item is None else item.text()

    def _count(self) -> None:
        self._stale = False
        self._counts = tag_counts(self._captions, self._delimiter)
        self._fill()

    def _fill(self) -> None:
        chosen, wanted = self.tag, self.search.text().strip().casefold()
        found = [item for item in self._counts.items() if wanted in item[0].casefold()]
        self.table.setRowCount(min(_MOST, len(found)))
        self.table.clearSelection()
        for row, (tag, count) in enumerate(found[:_MOST]):
            number = QTableWidgetItem(str(count))
            number.setTextAlignment(
                Qt.AlignmentFlag.AlignRight | Qt.AlignmentFlag.AlignVCenter
            )
            self.table.setItem(row, 0, QTableWidgetItem(tag))
            self.table.setItem(row, 1, number)
            if tag == chosen:
                self.table.selectRow(row)
        text = counted(len(found), "tag", "tags")
        if wanted:
            text += f" of {len(self._counts)}"
        if len(found) > _MOST:
            text += f", the {_MOST} most frequent are shown"
        self.note.say(f"{text}, separated by {self._delimiter!r}.", QUIET)
        self._allow()

    def _allow(self) -> None:
        for name, button in self.buttons.items():
            edits = name != "Show images"
            button.setEnabled(bool(self.tag) and not (edits and self._locked))

    def _show(self) -> None:
        self.shown.emit(self.tag)

    def _rename(self) -> None:
        tag = self.tag
        name, given = QInputDialog.getText(
            self, "Rename tag", "New name:", QLineEdit.EchoMode.Normal, tag
        )
        if given and name.strip() and name.strip() != tag:
            self.renamed.emit(tag, name.strip())

    def _remove(self) -> None:
        self.removed.emit(self.tag)

    def _arrange(self) -> None:
        row = QHBoxLayout()
        row.addWidget(self.note, 1)
        for button in self.buttons.values():
            row.addWidget(button)
        column = QVBoxLayout(self)
        column.addWidget(self.search)
        column.addWidget(self.table, 1)
        column.addLayout(row)
