"""Editors for the values of fields, except for objects, which use forms.

An editor shows a JSON value and emits the edited value.
"""

from __future__ import annotations

from typing import Any

from PySide6.QtCore import Signal
from PySide6.QtWidgets import (
    QCheckBox,
    QFileDialog,
    QHBoxLayout,
    QLineEdit,
    QMenu,
    QPlainTextEdit,
    QPushButton,
    QVBoxLayout,
    QWidget,
)

from ..controllers.field_values import (
    SUGGESTIONS,
    choice_text,
    choices_of,
    interval_parts,
    interval_value,
    is_folder,
    lines_value,
    placeholder,
    text_of,
    units_of,
    value_of,
)
from ..controllers.fields import Field
from .basics import Combo, PathLine, repolish

__all__ = [
    "ChoiceEditor",
    "ChoicesEditor",
    "Editor",
    "FlagEditor",
    "IntervalEditor",
    "LineEditor",
    "LinesEditor",
    "PathEditor",
    "StackEditor",
]


class Editor(QWidget):
    """Base class for editors.

    ``edited`` emits the new value and whether the user is typing.
    """

    edited = Signal(object, bool)

    def __init__(self, field: Field) -> None:
        super().__init__()
        self.field = field
        self._value: Any = ...

    def show_value(self, value: Any) -> None:
        """Show a value, unless it was just entered by the user."""
        if type(value) is type(self._value) and value == self._value:
            return
        self._value = value
        self._render(value)

    def hide_parts(self, keys: set[str]) -> None:
        """Hide fields inside of the editor, if it is one of a list of objects."""

    def mark_wrong(self, wrong: bool) -> None:
        """Mark the value as valid or invalid."""
        target = self.focusProxy() or self
        if target.property("wrong") != wrong:
            target.setProperty("wrong", wrong)
            repolish(target)

    def _render(self, value: Any) -> None:
        raise NotImplementedError

    def _emit(self, value: Any, typing: bool = False) -> None:
        self._value = value
        self.edited.emit(value, typing)

    def _place(self, *widgets: QWidget) -> None:
        """Arrange widgets in a row. The first one is focused and stretched."""
        row = QHBoxLayout(self)
        row.setContentsMargins(0, 0, 0, 0)
        for index, widget in enumerate(widgets):
            row.addWidget(widget, 0 if index else 1)
        self.setFocusProxy(widgets[0])


class FlagEditor(Editor):
    """Checkbox."""

    def __init__(self, field: Field) -> None:
        super().__init__(field)
        self.box = QCheckBox()
        self.box.setAccessibleName(field.label)
        self.box.clicked.connect(lambda on: self._emit(bool(on)))
        self._place(self.box)

    def _render(self, value: Any) -> None:
        self.box.setChecked(bool(value))


class ChoiceEditor(Editor):
    """Drop-down list."""

    def __init__(self, field: Field) -> None:
        super().__init__(field)
        self.combo = Combo()
        self.combo.setAccessibleName(field.label)
        self._choices = choices_of(field)
        for choice in self._choices:
            self.combo.addItem(choice_text(field, choice))
        self.combo.activated.connect(lambda index: self._emit(self._choices[index]))
        self._place(self.combo)

    def _render(self, value: Any) -> None:
        found = self._choices.index(value) if value in self._choices else -1
        self.combo.setCurrentIndex(found)


class LineEditor(Editor):
    """Line edit for numbers, text or JSON. If it is empty, the value is not set."""

    def __init__(self, field: Field, line: QLineEdit | None = None) -> None:
        super().__init__(field)
        self.line = line or QLineEdit()
        self.line.setAccessibleName(field.label)
        self.line.setPlaceholderText(placeholder(field))
        self.line.textEdited.connect(self._typed)
        self.line.editingFinished.connect(self._finished)
        if type(self) is LineEditor:
            self._build()

    def _build(self) -> None:
        suggestions = SUGGESTIONS.get(self.field.key)
        if suggestions is None:
            self._place(self.line)
            return
        combo = Combo()
        combo.setEditable(True)
        combo.setLineEdit(self.line)
        combo.addItems(list(suggestions))
        combo.textActivated.connect(self._typed)
        self._place(combo)

    def _typed(self, text: str) -> None:
        self._emit(self._read(text), True)

    def _finished(self) -> None:
        # An empty field shows its default again.
        if not self.line.text() and self._value is not None:
            self._render(self._value)

    def _read(self, text: str) -> Any:
        return value_of(self.field, text)

    def _render(self, value: Any) -> None:
        self.line.setText(text_of(self.field, value))
        self.line.setCursorPosition(0)


class IntervalEditor(LineEditor):
    """A number and its unit, such as steps, epochs or minutes."""

    def __init__(self, field: Field) -> None:
        super().__init__(field)
        self.unit = Combo()
        self.unit.addItems(list(units_of(field)))
        self.unit.setAccessibleName(f"Unit of {field.label}")
        self.unit.activated.connect(self._chosen)
        self._place(self.line, self.unit)

    def _chosen(self) -> None:
        # An empty field has no unit that could change.
        if self.line.text().strip():
            self._emit(self._read(self.line.text()))

    def _read(self, text: str) -> Any:
        return interval_value(self.field, text, self.unit.currentText())

    def _render(self, value: Any) -> None:
        number, unit = interval_parts(self.field, value)
        if unit is not None:
            self.unit.setCurrentText(unit)
        super()._render(number)


class PathEditor(LineEditor):
    """Line edit for paths, with a browse button."""

    def __init__(self, field: Field) -> None:
        super().__init__(field, PathLine())
        self.button = QPushButton("Browse…")
        self.button.setAccessibleName(f"Choose {field.label}")
        if is_folder(field):
            self.button.clicked.connect(self._choose_folder)
        else:
            self.button.setText("Browse… ▾")
            menu = QMenu(self.button)
            menu.addAction("Folder…", self._choose_folder)
            menu.addAction("File…", self._choose_file)
            self.button.setMenu(menu)
        self._place(self.line, self.button)

    def _render(self, value: Any) -> None:
        super()._render(value)
        # Show the end of a long path, which is more informative.
        self.line.end(False)

    def _choose_folder(self) -> None:
        chosen = QFileDialog.getExistingDirectory(
            self, self.field.label, self.line.text()
        )
        self._take(chosen)

    def _choose_file(self) -> None:
        chosen, _ = QFileDialog.getOpenFileName(
            self, self.field.label, self.line.text()
        )
        self._take(chosen)

    def _take(self, chosen: str) -> None:
        if chosen:
            self.line.setText(chosen)
            self._emit(chosen)


class StackEditor(Editor):
    """Editor with several widgets in a column."""

    def __init__(self, field: Field) -> None:
        super().__init__(field)
        self.stack = QVBoxLayout(self)
        self.stack.setContentsMargins(0, 0, 0, 0)


class ChoicesEditor(StackEditor):
    """Editor with a checkbox for each value of a fixed list."""

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
    """Multi-line editor for lists of strings or numbers, one per line."""

    def __init__(self, field: Field) -> None:
        super().__init__(field)
        self.text = QPlainTextEdit()
        self.text.setAccessibleName(field.label)
        self.text.setTabChangesFocus(True)
        self.text.setPlaceholderText("one per line")
        self.text.setFixedHeight(self.fontMetrics().lineSpacing() * 3 + 14)
        self.text.textChanged.connect(self._typed)
        self.stack.addWidget(self.text)
        self.setFocusProxy(self.text)

    def _typed(self) -> None:
        self._emit(lines_value(self.field, self.text.toPlainText()), True)

    def _render(self, value: Any) -> None:
        self.text.blockSignals(True)
        self.text.setPlainText("\n".join(str(entry) for entry in value or ()))
        self.text.blockSignals(False)
