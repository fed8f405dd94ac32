"""Forms in the browser: a label, editor and message for each field, and records."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from nicegui import ui

from ...controllers.field_values import (
    changed_record,
    editor_kind,
    filled_record,
    limits_of,
)
from ...controllers.fields import Field, Kind
from ...controllers.form_state import RowState
from .field_editors import (
    BrowserEditor,
    ChoiceBox,
    ChoicesBoxes,
    Edited,
    FlagBox,
    IntervalBox,
    LinesBox,
    PathBox,
    TextBox,
)
from .message_box import Message

__all__ = ["BrowserForm", "BrowserRow", "FolderChoice"]

FolderChoice = Callable[[str, Callable[[Path], None]], None]
"""Function that lets the user choose a folder: present text, and receiver."""

_WIDE = (Kind.RECORDS, Kind.RECORD)
# Records with more fields than this only show the required ones; a button shows the
# others.
_FEW = 2
_EDITORS: dict[Kind, type[BrowserEditor]] = {
    Kind.FLAG: FlagBox,
    Kind.CHOICE: ChoiceBox,
    Kind.CHOICES: ChoicesBoxes,
    Kind.INTERVAL: IntervalBox,
    Kind.LINES: LinesBox,
}


class BrowserRow:
    """Elements of one field.

    Args:
        field: field to edit.
        edited: function that is called with an edited value.
        choose: function that lets the user choose a folder.
        prefix: first part of the dotted key, such as ``optimizer.``.
    """

    def __init__(
        self, field: Field, edited: Edited, choose: FolderChoice, prefix: str = ""
    ) -> None:
        self.field = field
        self._shown: RowState | None = None
        wide = " sl-wide" if field.kind in _WIDE else ""
        self.root = ui.element("div").classes(f"sl-row{wide}")
        self.root.props["data-key"] = prefix + field.key
        self.root.props["data-doc"] = description(field)
        with self.root:
            self.label = ui.label(field.label).classes("sl-label")
            with ui.element("div").classes("sl-editor"):
                self.editor = make_editor(field, edited, choose)
                self.note = Message()

    def show_state(self, state: RowState) -> None:
        """Show the value and its messages, or hide the row."""
        if state == self._shown:
            self.editor.show_value(state.value)
            return
        self._shown = state
        self.editor.show_value(state.value)
        self.editor.set_enabled(state.lock is None)
        self.editor.mark_wrong(bool(state.errors))
        if state.errors:
            self.note.say("\n".join(state.errors), "error")
        elif state.lock:
            self.note.say(state.lock, "quiet")
        else:
            self.note.say("\n".join(state.remarks), "remark")
        bold = "sl-changed"
        self.label.classes(add=bold) if state.changed else self.label.classes(
            remove=bold
        )
        self.editor.hide_parts(state.hidden_parts)
        self.set_visible(state.visible)

    def set_visible(self, visible: bool) -> None:
        """Show or hide the row."""
        self.root.set_visibility(visible)


class BrowserForm:
    """Form with rows of fields.

    Args:
        fields: fields of the form.
        edited: function that is called with key, value and typing state.
        choose: function that lets the user choose a folder.
        prefix: first part of dotted keys.
    """

    def __init__(
        self,
        fields: Sequence[Field],
        edited: Callable[[str, Any, bool], None],
        choose: FolderChoice,
        prefix: str = "",
    ) -> None:
        self._edited = edited
        with ui.element("div").classes("sl-form"):
            self.rows = {
                field.key: BrowserRow(field, self._call(field.key), choose, prefix)
                for field in fields
            }

    def show_values(self, values: Mapping[str, Any]) -> None:
        """Show the values of all fields."""
        for key, row in self.rows.items():
            row.editor.show_value(values[key])

    def _call(self, key: str) -> Edited:
        return lambda value, typing: self._edited(key, value, typing)


class RecordBox(BrowserEditor):
    """Editor of an object with fields."""

    def __init__(self, field: Field, edited: Edited, choose: FolderChoice) -> None:
        super().__init__(field, edited)
        self._parts = {part.key: part for part in field.parts}
        with ui.element("div").classes("sl-entry"):
            self.form = BrowserForm(field.parts, self._part_edited, choose)

    def _part_edited(self, key: str, value: Any, typing: bool) -> None:
        self._emit(changed_record(self._value or {}, self._parts[key], value), typing)

    def _render(self, value: Any) -> None:
        self.form.show_values(filled_record(value or {}, self.field.parts))


class RecordsBox(BrowserEditor):
    """Editor of a list of objects, with buttons to add, move and remove them."""

    def __init__(self, field: Field, edited: Edited, choose: FolderChoice) -> None:
        super().__init__(field, edited)
        self._choose = choose
        self._parts = {part.key: part for part in field.parts}
        self.entries: list[EntryFrame] = []
        self._hidden: frozenset[str] = frozenset()
        self._shelf = ui.element("div").classes("w-full")
        add = ui.button(f"Add to {field.label.lower()}", on_click=self._add)
        add.props("outline no-caps dense padding='4px 10px'")

    def hide_parts(self, keys: frozenset[str]) -> None:
        """Hide fields of all entries, except for entries in which they are set."""
        if keys != self._hidden:
            self._hidden = keys
            self._hide()

    def _records(self) -> list[dict[str, Any]]:
        value = self._value if isinstance(self._value, list) else []
        return [dict(record) for record in value]

    def _add(self) -> None:
        blank = {part.key: "" for part in self.field.parts if part.required}
        self._replace([*self._records(), blank])

    def _replace(self, records: list[dict[str, Any]], typing: bool = False) -> None:
        self._value = records
        self._draw(records)
        self._emit(records, typing)

    def edit_part(self, place: int, key: str, value: Any, typing: bool) -> None:
        """Change a field of an entry."""
        records = self._records()
        records[place] = changed_record(records[place], self._parts[key], value)
        self._value = records
        self._hide()
        self._emit(records, typing)

    def move(self, place: int, by: int) -> None:
        """Move an entry up or down."""
        records = self._records()
        if 0 <= place + by < len(records):
            records.insert(place + by, records.pop(place))
            self._replace(records)

    def remove(self, place: int) -> None:
        """Remove an entry."""
        records = self._records()
        del records[place]
        self._replace(records)

    def _render(self, value: Any) -> None:
        records = value if isinstance(value, list) else []
        while len(self.entries) > len(records):
            self.entries.pop().root.delete()
        with self._shelf:
            while len(self.entries) < len(records):
                self.entries.append(EntryFrame(self, len(self.entries), self._choose))
        for entry, record in zip(self.entries, records, strict=True):
            entry.form.show_values(filled_record(record, self.field.parts))
        self._hide()

    def _hide(self) -> None:
        for entry, record in zip(self.entries, self._records(), strict=False):
            entry.hide_parts({key for key in self._hidden if not record.get(key)})


class EntryFrame:
    """Editor of an entry in a list of objects."""

    def __init__(self, owner: RecordsBox, place: int, choose: FolderChoice) -> None:
        parts = sorted(owner.field.parts, key=lambda part: not part.required)
        many = len(parts) > _FEW
        self._rest = [part.key for part in parts if not part.required] if many else []
        self._hidden: set[str] = set()
        self._open = False
        self.root = ui.element("div").classes("sl-entry")
        with self.root:
            self.form = BrowserForm(
                parts,
                lambda key, value, typing: owner.edit_part(place, key, value, typing),
                choose,
            )
            with ui.row().classes("w-full gap-1"):
                if self._rest:
                    self.more = _tool("More", "Show all settings of this entry")
                    self.more.on_click(self._toggle)
                ui.space()
                for text, hint, call in (
                    ("▲", "Move up", lambda: owner.move(place, -1)),
                    ("▼", "Move down", lambda: owner.move(place, 1)),
                    ("Remove", "Remove this entry", lambda: owner.remove(place)),
                ):
                    _tool(text, hint).on_click(call)
        self._show_rest()

    def hide_parts(self, keys: set[str]) -> None:
        """Hide fields, also if all others are shown."""
        if keys != self._hidden:
            self._hidden = keys
            self._show_rest()

    def _toggle(self) -> None:
        self._open = not self._open
        self.more.set_text("Less" if self._open else "More")
        self._show_rest()

    def _show_rest(self) -> None:
        for key in self._rest:
            self.form.rows[key].set_visible(self._open and key not in self._hidden)


def make_editor(field: Field, edited: Edited, choose: FolderChoice) -> BrowserEditor:
    """Create the editor for the kind of a field."""
    kind = editor_kind(field)
    if kind is Kind.PATH:
        return PathBox(field, edited, choose)
    if kind is Kind.RECORD:
        return RecordBox(field, edited, choose)
    if kind is Kind.RECORDS:
        return RecordsBox(field, edited, choose)
    return _EDITORS.get(kind, TextBox)(field, edited)


def description(field: Field) -> str:
    """Return the documentation of a field, its config key and its limits."""
    limits = limits_of(field)
    return f"{field.explanation}\n{field.key}" + (f" ({limits})" if limits else "")


def _tool(text: str, hint: str) -> ui.button:
    button = ui.button(text).props("flat no-caps dense padding='2px 8px'")
    button.props["aria-label"] = hint
    button.props["title"] = hint
    return button
