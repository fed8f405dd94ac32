"""Editors of lists: several choices, lines of text, and records such as samples."""

from __future__ import annotations

from typing import Any

from PySide6.QtCore import Qt, Signal
from PySide6.QtWidgets import (
    QCheckBox,
    QFrame,
    QHBoxLayout,
    QPlainTextEdit,
    QPushButton,
    QToolButton,
    QVBoxLayout,
)

from ..controllers.fields import Field, Kind
from .editors import StackEditor, number_of
from .form import FieldsForm

__all__ = ["ChoicesEditor", "LinesEditor", "RecordEditor", "RecordsEditor"]

# Records with more fields than this show what they need; the others wait behind a
# button.
_FEW = 2


class ChoicesEditor(StackEditor):
    """A tick for each of a closed list."""

    def __init__(self, field: Field) -> None:
        super().__init__(field)
        self.boxes = {choice: QCheckBox(str(choice)) for choice in field.choices}
        for box in self.boxes.values():
            box.clicked.connect(self._clicked)
            self.stack.addWidget(box)

    def _clicked(self) -> None:
        self._emit([name for name, box in self.boxes.items() if box.isChecked()])

    def _render(self, value: Any) -> None:
        for name, box in self.boxes.items():
            box.setChecked(name in (value or ()))


class LinesEditor(StackEditor):
    """Texts or numbers, one a line."""

    def __init__(self, field: Field) -> None:
        super().__init__(field)
        self.text = QPlainTextEdit()
        self.text.setAccessibleName(field.label)
        self.text.setTabChangesFocus(True)
        self.text.setPlaceholderText("one a line")
        self.text.setFixedHeight(self.fontMetrics().lineSpacing() * 3 + 14)
        self.text.textChanged.connect(self._typed)
        self.stack.addWidget(self.text)
        self.setFocusProxy(self.text)

    def _typed(self) -> None:
        lines = self.text.toPlainText().splitlines()
        entries = [line.strip() for line in lines if line.strip()]
        if self.field.item in (Kind.INTEGER, Kind.NUMBER):
            whole = self.field.item is Kind.INTEGER
            self._emit([number_of(entry, whole=whole) for entry in entries], True)
        else:
            self._emit(entries, True)

    def _render(self, value: Any) -> None:
        self.text.blockSignals(True)
        self.text.setPlainText("\n".join(str(entry) for entry in value or ()))
        self.text.blockSignals(False)


class RecordEditor(StackEditor):
    """One object with fields of its own."""

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
    """A list of objects, each on a card; cards are added, moved and removed."""

    def __init__(self, field: Field) -> None:
        super().__init__(field)
        self.cards: list[Card] = []
        self._shelf = QVBoxLayout()
        self.add = QPushButton(f"Add to {field.label.lower()}")
        self.add.clicked.connect(self._add)
        self.stack.addLayout(self._shelf)
        self.stack.addWidget(self.add, 0, Qt.AlignmentFlag.AlignLeft)
        self.setFocusProxy(self.add)

    def _records(self) -> list[dict[str, Any]]:
        return [dict(record) for record in self._value or ()]

    def _add(self) -> None:
        blank = {part.key: "" for part in self.field.parts if part.required}
        self._replace([*self._records(), blank])
        self.cards[-1].form.focus_first()

    def _replace(self, records: list[dict[str, Any]], typing: bool = False) -> None:
        self._render(records)
        self._emit(records, typing)

    def _edited(self, card: Card, key: str, value: Any, typing: bool) -> None:
        records, place = self._records(), self.cards.index(card)
        parts = {part.key: part for part in self.field.parts}
        records[place] = changed_record(records[place], parts[key], value)
        self._replace(records, typing)

    def _moved(self, card: Card, by: int) -> None:
        records, place = self._records(), self.cards.index(card)
        if 0 <= place + by < len(records):
            records.insert(place + by, records.pop(place))
            self._replace(records)

    def _removed(self, card: Card) -> None:
        records = self._records()
        del records[self.cards.index(card)]
        self._replace(records)

    def _render(self, value: Any) -> None:
        records = value if isinstance(value, list) else []
        while len(self.cards) > len(records):
            self.cards.pop().deleteLater()
        while len(self.cards) < len(records):
            self._new_card()
        for card, record in zip(self.cards, records, strict=True):
            card.form.show_values(filled_record(record, self.field.parts))

    def _new_card(self) -> None:
        card = Card(self.field)
        card.form.edited.connect(
            lambda key, value, typing: self._edited(card, key, value, typing)
        )
        card.moved.connect(lambda by: self._moved(card, by))
        card.removed.connect(lambda: self._removed(card))
        self.cards.append(card)
        self._shelf.addWidget(card)


class Card(QFrame):
    """One record: its first fields, the others behind a button, and its orders."""

    moved = Signal(int)
    removed = Signal()

    def __init__(self, field: Field) -> None:
        super().__init__()
        self.setObjectName("card")
        parts = sorted(field.parts, key=lambda part: not part.required)
        self.form = FieldsForm(parts)
        many = len(parts) > _FEW
        rest = [part.key for part in parts if not part.required] if many else []
        self._more = _tool("More", "Show all settings of this entry")
        self._more.setCheckable(True)
        self._more.toggled.connect(lambda on: self.form.show_only(rest, on))
        self._more.setVisible(bool(rest))
        self.form.show_only(rest, False)
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


def filled_record(record: dict[str, Any], parts: tuple[Field, ...]) -> dict[str, Any]:
    """A record with the defaults of what it does not set."""
    return {part.key: record.get(part.key, part.default) for part in parts}


def changed_record(record: dict[str, Any], part: Field, value: Any) -> dict[str, Any]:
    """A record with one value changed; a default is left out."""
    changed = {key: old for key, old in record.items() if key != part.key}
    if value != part.default:
        changed[part.key] = value
    return changed


def _tool(text: str, hint: str) -> QToolButton:
    button = QToolButton()
    button.setText(text)
    button.setToolTip(hint)
    button.setAccessibleName(hint)
    return button
