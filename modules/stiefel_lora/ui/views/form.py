"""A form of fields: label, editor, and the sentence of what is wrong, row by row."""

from __future__ import annotations

import html
from collections.abc import Collection, Mapping, Sequence
from typing import Any

from PySide6.QtCore import Qt, Signal
from PySide6.QtWidgets import QGridLayout, QLabel, QWidget

from ..controllers.fields import Field, Kind
from .basics import Note
from .editors import ChoiceEditor, Editor, FlagEditor, LineEditor, PathEditor
from .theme import ERROR, QUIET, REMARK

__all__ = ["FieldsForm", "Row"]

# Texts that name a file or folder, or a model on a hub.
_MODEL = "model_name"
_WIDE = (Kind.RECORDS, Kind.RECORD)


class Row:
    """The widgets of one field.

    Args:
        field: what is edited.
        parent: whose grid the widgets go into.
    """

    def __init__(self, field: Field, parent: QWidget) -> None:
        self.field = field
        self.label = QLabel(field.label, parent)
        self.editor = make_editor(field)
        self.editor.setParent(parent)
        self.note = Note()
        self.label.setBuddy(self.editor)
        for widget in (self.label, self.editor):
            widget.setToolTip(tooltip(field))
        self.editor.setProperty("doc", field.explanation)
        self.locked = False

    def mark(
        self,
        errors: Sequence[str],
        remarks: Sequence[str],
        lock: str | None,
        changed: bool,
    ) -> None:
        """Show what is wrong, what is only odd, and whether the value is set here."""
        self.locked = lock is not None
        self.editor.setEnabled(not self.locked)
        self.editor.mark_wrong(bool(errors))
        if errors:
            self.note.say("\n".join(errors), ERROR)
        elif lock:
            self.note.say(lock, QUIET)
        else:
            self.note.say("\n".join(remarks), REMARK)
        font = self.label.font()
        if font.bold() != changed:
            font.setBold(changed)
            self.label.setFont(font)

    def set_visible(self, visible: bool) -> None:
        """Show or hide the whole row."""
        self.label.setVisible(visible)
        self.editor.setVisible(visible)
        self.note.setVisible(visible and bool(self.note.text()))


class FieldsForm(QWidget):
    """Rows for fields; ``edited`` gives key, value and whether it is being typed."""

    edited = Signal(str, object, bool)

    def __init__(self, fields: Sequence[Field]) -> None:
        super().__init__()
        self.rows: dict[str, Row] = {}
        grid = QGridLayout(self)
        grid.setContentsMargins(4, 4, 4, 4)
        grid.setColumnStretch(1, 1)
        for field in fields:
            self._add(field, grid)

    def show_values(self, values: Mapping[str, Any]) -> None:
        """Show the values of all fields."""
        for key, row in self.rows.items():
            row.editor.show_value(values[key])

    def show_only(self, keys: Collection[str], visible: bool) -> None:
        """Show or hide the rows of ``keys``."""
        for key in keys:
            self.rows[key].set_visible(visible)

    def focus_first(self) -> None:
        """Put the cursor into the first field."""
        next(iter(self.rows.values())).editor.setFocus()

    def _add(self, field: Field, grid: QGridLayout) -> None:
        row = Row(field, self)
        self.rows[field.key] = row
        at = grid.rowCount()
        top = Qt.AlignmentFlag.AlignTop
        if field.kind in _WIDE:
            grid.addWidget(row.label, at, 0, 1, 2)
            grid.addWidget(row.editor, at + 1, 0, 1, 2)
        else:
            row.label.setContentsMargins(0, 4, 6, 0)
            grid.addWidget(row.label, at, 0, top)
            grid.addWidget(row.editor, at, 1)
        grid.addWidget(row.note, at + 2, 0 if field.kind in _WIDE else 1, 1, -1)
        row.editor.edited.connect(
            lambda value, typing: self.edited.emit(field.key, value, typing)
        )


def make_editor(field: Field) -> Editor:
    """The editor for the kind of ``field``."""
    # Records hold forms themselves.
    from .lists import ChoicesEditor, LinesEditor, RecordEditor, RecordsEditor

    if field.kind is Kind.FLAG:
        return ChoiceEditor(field) if field.optional else FlagEditor(field)
    if field.key.endswith(_MODEL):
        return PathEditor(field)
    kinds: dict[Kind, type[Editor]] = {
        Kind.CHOICE: ChoiceEditor,
        Kind.PATH: PathEditor,
        Kind.CHOICES: ChoicesEditor,
        Kind.LINES: LinesEditor,
        Kind.RECORD: RecordEditor,
        Kind.RECORDS: RecordsEditor,
    }
    return kinds.get(field.kind, LineEditor)(field)


def tooltip(field: Field) -> str:
    """Documentation of a field, wrapped, with its key in files and its limits."""
    limits = ""
    if field.low is not None and field.high is not None:
        limits = f" ({field.low:g} to {field.high:.12g})"
    doc = html.escape(field.explanation)
    return f"<p>{doc}</p><p><code>{html.escape(field.key)}</code>{limits}</p>"
