"""Dialog that edits many captions at once, with a preview of the changes."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from PySide6.QtWidgets import (
    QCheckBox,
    QDialog,
    QDialogButtonBox,
    QFormLayout,
    QHeaderView,
    QLineEdit,
    QTableWidget,
    QTableWidgetItem,
    QVBoxLayout,
    QWidget,
)

from ..._wording import counted
from ...config.caption_extension import TEXT
from ...data.caption_files import Change
from ..controllers.bulk_edit import (
    EDIT_KINDS,
    MOST_LISTED,
    BulkEdit,
    inputs_of,
    note_on_changes,
    usual_separator,
)
from .basics import Combo, Note
from .theme import QUIET

__all__ = ["BulkEditDialog"]

Captions = Mapping[Path, str]


class BulkEditDialog(QDialog):
    """Dialog for an edit of many captions. It writes nothing itself.

    Args:
        scopes: captions by image, for each choice of images.
        trigger: trigger word of the settings, or "".
        delimiter: separator of tags.
        parent: window of the dialog.
        extension: extension of caption files.
    """

    def __init__(
        self,
        scopes: Mapping[str, Captions],
        trigger: str,
        delimiter: str,
        parent: QWidget | None = None,
        *,
        extension: str = TEXT,
    ) -> None:
        super().__init__(parent)
        self.setWindowTitle("Edit captions")
        self._scopes, self._delimiter = scopes, delimiter
        self._extension = extension
        self.changes: list[Change] = []
        """Changes of the captions that the edit makes."""

        self.scope, self.kind = Combo(), Combo()
        self.scope.addItems(list(scopes))
        self.kind.addItems(EDIT_KINDS)
        self.text, self.old, self.new = QLineEdit(trigger), QLineEdit(), QLineEdit()
        self.separator = QLineEdit(usual_separator(delimiter))
        self.separator.setToolTip("Text between the caption and the added text.")
        self.case = QCheckBox("Match case")
        self.words = QCheckBox("Whole words")
        self.table = QTableWidget(0, 3)
        self.note = Note()
        self.buttons = QDialogButtonBox(
            QDialogButtonBox.StandardButton.Ok | QDialogButtonBox.StandardButton.Cancel
        )
        self.apply = self.buttons.button(QDialogButtonBox.StandardButton.Ok)
        self._arrange()
        for combo in (self.scope, self.kind):
            combo.currentIndexChanged.connect(self._refresh)
        for line in (self.text, self.old, self.new, self.separator):
            line.textChanged.connect(self._refresh)
        for box in (self.case, self.words):
            box.toggled.connect(self._refresh)
        self._refresh()

    @property
    def title(self) -> str:
        """Description of the edit, for its undo."""
        return self._edit().title

    def _edit(self) -> BulkEdit:
        return BulkEdit(
            self.kind.currentText(),
            self.text.text(),
            self.separator.text(),
            self.old.text(),
            self.new.text(),
            self.case.isChecked(),
            self.words.isChecked(),
        )

    def _refresh(self) -> None:
        wanted = inputs_of(self.kind.currentText())
        for name, widget in (
            ("text", self.text),
            ("separator", self.separator),
            ("old", self.old),
            ("new", self.new),
            ("options", self.options),
        ):
            self.form.setRowVisible(widget, name in wanted)
        captions = self._scopes[self.scope.currentText()]
        self.changes = self._edit().changes(captions, self._delimiter, self._extension)
        self.table.setRowCount(min(MOST_LISTED, len(self.changes)))
        for row, change in enumerate(self.changes[:MOST_LISTED]):
            texts = (change.path.name, change.before, change.after)
            for column, text in enumerate(texts):
                item = QTableWidgetItem(text)
                item.setToolTip(text)
                self.table.setItem(row, column, item)
        count = counted(len(self.changes), "caption", "captions")
        self.apply.setText(f"Change {count}")
        self.apply.setEnabled(bool(self.changes))
        self.note.say(note_on_changes(len(self.changes), len(captions)), QUIET)

    def _arrange(self) -> None:
        self.options = QWidget()
        row = QVBoxLayout(self.options)
        row.setContentsMargins(0, 0, 0, 0)
        row.addWidget(self.case)
        row.addWidget(self.words)
        self.form = QFormLayout()
        for name, widget in (
            ("Images", self.scope),
            ("Edit", self.kind),
            ("Text", self.text),
            ("Separator", self.separator),
            ("Find", self.old),
            ("Replace by", self.new),
            ("", self.options),
        ):
            widget.setAccessibleName(name)
            self.form.addRow(name, widget)
        self.table.setHorizontalHeaderLabels(["File", "Before", "After"])
        self.table.verticalHeader().hide()
        self.table.setWordWrap(False)
        self.table.setEditTriggers(QTableWidget.EditTrigger.NoEditTriggers)
        self.table.setAccessibleName("Changes")
        self.table.setTabKeyNavigation(False)
        header = self.table.horizontalHeader()
        for place in (1, 2):
            header.setSectionResizeMode(place, QHeaderView.ResizeMode.Stretch)
        self.buttons.accepted.connect(self.accept)
        self.buttons.rejected.connect(self.reject)
        column = QVBoxLayout(self)
        column.addLayout(self.form)
        column.addWidget(self.table, 1)
        column.addWidget(self.note)
        column.addWidget(self.buttons)
        self.resize(self.fontMetrics().averageCharWidth() * 110, 520)
