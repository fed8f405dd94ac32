"""Forms with a label, editor and message for each field, and editors for records."""

from __future__ import annotations

import html
from collections.abc import Mapping, Sequence
from typing import Any

from PySide6.QtCore import Qt, Signal
from PySide6.QtWidgets import (
    QApplication,
    QFrame,
    QGridLayout,
    QHBoxLayout,
    QLabel,
    QPushButton,
    QToolButton,
    QVBoxLayout,
    QWidget,
)

from ..controllers.field_values import (
    changed_record,
    editor_kind,
    filled_record,
    limits_of,
)
from ..controllers.fields import Field, Kind
from ..controllers.form_state import RowState
from .basics import Note
from .editors import (
    ChoiceEditor,
    ChoicesEditor,
    Editor,
    FlagEditor,
    IntervalEditor,
    LineEditor,
    LinesEditor,
    PathEditor,
    StackEditor,
)
from .theme import ERROR, QUIET, REMARK

__all__ = ["FieldsForm", "Row"]

_WIDE = (Kind.RECORDS, Kind.RECORD)
# Records with more fields than this only show the required ones; a button shows the
# others.
_FEW = 2


class Row:
    """Widgets of one field.

    Args:
        field: field to edit.
        parent: form that contains the widgets.
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
        self.shown = True

    def has_focus(self) -> bool:
        """Return whether the user is editing this field."""
        focused = QApplication.focusWidget()
        return focused is not None and self.editor.isAncestorOf(focused)

    def show_state(self, state: RowState) -> None:
        """Show the value and its messages, or hide the row."""
        self.editor.show_value(state.value)
        self.locked = state.lock is not None
        self.editor.setEnabled(not self.locked)
        self.editor.mark_wrong(bool(state.errors))
        if state.errors:
            self.note.say("\n".join(state.errors), ERROR)
        elif state.lock:
            self.note.say(state.lock, QUIET)
        else:
            self.note.say("\n".join(state.remarks), REMARK)
        font = self.label.font()
        if font.bold() != state.changed:
            font.setBold(state.changed)
            self.label.setFont(font)
        self.editor.hide_parts(set(state.hidden_parts))
        self.set_visible(state.visible)

    def set_visible(self, visible: bool) -> None:
        """Show or hide the row."""
        self.shown = visible
        self.label.setVisible(visible)
        self.editor.setVisible(visible)
        self.note.setVisible(visible and bool(self.note.text()))


class FieldsForm(QWidget):
    """Form with rows of fields. ``edited`` emits key, value and typing state."""

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

    def focus_first(self) -> None:
        """Focus the first field."""
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


class RecordEditor(StackEditor):
    """Editor of an object with fields."""

    def __init__(self, field: Field) -> None:
        super().__init__(field)
        self.form = FieldsForm(field.parts)
        self.form.edited.connect(self._edited)
        self.stack.addWidget(self.form)

    def _edited(self, key: str, value: Any, typing: bool) -> None:
        parts = {part.key: part for part in self.field.parts}
        self._emit(changed_record(self._value or {}, parts[key], value), typing)

    def _render(self, value: Any) -> None:
        self.form.show_values(filled_record(value or {}, self.field.parts))


class RecordsEditor(StackEditor):
    """Editor of a list of objects, with buttons to add, move and remove them."""

    def __init__(self, field: Field) -> None:
        super().__init__(field)
        self.entries: list[EntryBox] = []
        self._hidden: set[str] = set()
        self._shelf = QVBoxLayout()
        self.add = QPushButton(f"Add to {field.label.lower()}")
        self.add.clicked.connect(self._add)
        self.stack.addLayout(self._shelf)
        self.stack.addWidget(self.add, 0, Qt.AlignmentFlag.AlignLeft)
        self.setFocusProxy(self.add)

    def hide_parts(self, keys: set[str]) -> None:
        """Hide fields of all entries, except for entries in which they are set."""
        if keys != self._hidden:
            self._hidden = keys
            self._hide()

    def _hide(self) -> None:
        for entry, record in zip(self.entries, self._records(), strict=True):
            entry.hide_parts({key for key in self._hidden if not record.get(key)})

    def _records(self) -> list[dict[str, Any]]:
        return [dict(record) for record in self._value or ()]

    def _add(self) -> None:
        blank = {part.key: "" for part in self.field.parts if part.required}
        self._replace([*self._records(), blank])
        self.entries[-1].form.focus_first()

    def _replace(self, records: list[dict[str, Any]], typing: bool = False) -> None:
        self._render(records)
        self._emit(records, typing)

    def _edited(self, entry: EntryBox, key: str, value: Any, typing: bool) -> None:
        records, place = self._records(), self.entries.index(entry)
        parts = {part.key: part for part in self.field.parts}
        records[place] = changed_record(records[place], parts[key], value)
        self._replace(records, typing)

    def _moved(self, entry: EntryBox, by: int) -> None:
        records, place = self._records(), self.entries.index(entry)
        if 0 <= place + by < len(records):
            records.insert(place + by, records.pop(place))
            self._replace(records)

    def _removed(self, entry: EntryBox) -> None:
        records = self._records()
        del records[self.entries.index(entry)]
        self._replace(records)

    def _render(self, value: Any) -> None:
        records = value if isinstance(value, list) else []
        while len(self.entries) > len(records):
            self.entries.pop().deleteLater()
        while len(self.entries) < len(records):
            self._new_entry()
        for entry, record in zip(self.entries, records, strict=True):
            entry.form.show_values(filled_record(record, self.field.parts))
            entry.hide_parts({key for key in self._hidden if not record.get(key)})

    def _new_entry(self) -> None:
        entry = EntryBox(self.field)
        entry.form.edited.connect(
            lambda key, value, typing: self._edited(entry, key, value, typing)
        )
        entry.moved.connect(lambda by: self._moved(entry, by))
        entry.removed.connect(lambda: self._removed(entry))
        self.entries.append(entry)
        self._shelf.addWidget(entry)


class EntryBox(QFrame):
    """Editor of an entry in a list of objects."""

    moved = Signal(int)
    removed = Signal()

    def __init__(self, field: Field) -> None:
        super().__init__()
        self.setObjectName("entry")
        parts = sorted(field.parts, key=lambda part: not part.required)
        self.form = FieldsForm(parts)
        many = len(parts) > _FEW
        rest = [part.key for part in parts if not part.required] if many else []
        self._rest, self._hidden = rest, set[str]()
        self._more = _tool("More", "Show all settings of this entry")
        self._more.setCheckable(True)
        self._more.toggled.connect(lambda _: self._show_rest())
        self._more.setVisible(bool(rest))
        self._show_rest()
        orders = QHBoxLayout()
        orders.addWidget(self._more)
        orders.addStretch(1)
        for text, hint, call in (
            ("▲", "Move up", lambda: self.moved.emit(-1)),
            ("▼", "Move down", lambda: self.moved.emit(1)),
            ("Remove", "Remove this entry", self.removed.emit),
        ):
            button = _tool(text, hint)
            button.clicked.connect(call)
            orders.addWidget(button)
        column = QVBoxLayout(self)
        column.addWidget(self.form)
        column.addLayout(orders)

    def hide_parts(self, keys: set[str]) -> None:
        """Hide fields, also if all others are shown."""
        if keys != self._hidden:
            self._hidden = keys
            self._show_rest()

    def _show_rest(self) -> None:
        open_ = self._more.isChecked()
        for key in self._rest:
            self.form.rows[key].set_visible(open_ and key not in self._hidden)


def make_editor(field: Field) -> Editor:
    """Create the editor for the kind of a field."""
    kinds: dict[Kind, type[Editor]] = {
        Kind.FLAG: FlagEditor,
        Kind.CHOICE: ChoiceEditor,
        Kind.PATH: PathEditor,
        Kind.CHOICES: ChoicesEditor,
        Kind.INTERVAL: IntervalEditor,
        Kind.LINES: LinesEditor,
        Kind.RECORD: RecordEditor,
        Kind.RECORDS: RecordsEditor,
    }
    return kinds.get(editor_kind(field), LineEditor)(field)


def tooltip(field: Field) -> str:
    """Return the tooltip of a field: documentation, config key and limits."""
    found = limits_of(field)
    limits = f" ({found})" if found else ""
    doc = html.escape(field.explanation)
    return f"<p>{doc}</p><p><code>{html.escape(field.key)}</code>{limits}</p>"


def _tool(text: str, hint: str) -> QToolButton:
    button = QToolButton()
    button.setText(text)
    button.setToolTip(hint)
    button.setAccessibleName(hint)
    return button
