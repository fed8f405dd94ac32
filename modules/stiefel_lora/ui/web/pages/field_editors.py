"""Editors for the values of fields in the browser, except for objects.

An editor shows a JSON value and reports the edited value.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

from nicegui import ui

from ...controllers.field_values import (
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
from ...controllers.fields import Field

__all__ = [
    "BrowserEditor",
    "ChoiceBox",
    "ChoicesBoxes",
    "Edited",
    "FlagBox",
    "IntervalBox",
    "LinesBox",
    "PathBox",
    "TextBox",
]

Edited = Callable[[Any, bool], None]
"""Function that is called with the new value and whether the user is typing."""

# Milliseconds after the last keystroke before a text is sent to the server.
_TYPING_MS = 250


class BrowserEditor:
    """Base class for editors.

    Args:
        field: field to edit.
        edited: function that is called with an edited value.
    """

    def __init__(self, field: Field, edited: Edited) -> None:
        self.field = field
        self._edited = edited
        self._value: Any = ...
        self._rendering = False

    def show_value(self, value: Any) -> None:
        """Show a value, unless it was just entered in this browser."""
        if type(value) is type(self._value) and value == self._value:
            return
        self._value = value
        self._draw(value)

    def hide_parts(self, keys: frozenset[str]) -> None:
        """Hide fields inside of the editor, if it is one of a list of objects."""

    def set_enabled(self, on: bool) -> None:
        """Enable or disable the editor."""

    def mark_wrong(self, wrong: bool) -> None:
        """Mark the value as valid or invalid."""

    def _draw(self, value: Any) -> None:
        # Setting the value of an element calls its function for changes.
        self._rendering = True
        try:
            self._render(value)
        finally:
            self._rendering = False

    def _render(self, value: Any) -> None:
        raise NotImplementedError

    def _emit(self, value: Any, typing: bool = False) -> None:
        if not self._rendering:
            self._value = value
            self._edited(value, typing)


class FlagBox(BrowserEditor):
    """Checkbox."""

    def __init__(self, field: Field, edited: Edited) -> None:
        super().__init__(field, edited)
        self.box = ui.checkbox(on_change=lambda event: self._emit(bool(event.value)))
        self.box.props["aria-label"] = field.label
        self.box.props("dense")

    def set_enabled(self, on: bool) -> None:
        """Enable or disable the editor."""
        self.box.set_enabled(on)

    def _render(self, value: Any) -> None:
        self.box.value = bool(value)


class ChoiceBox(BrowserEditor):
    """Drop-down list."""

    def __init__(self, field: Field, edited: Edited) -> None:
        super().__init__(field, edited)
        self._choices = choices_of(field)
        texts = {at: choice_text(field, c) for at, c in enumerate(self._choices)}
        self.select = ui.select(
            texts, on_change=lambda event: self._chosen(event.value)
        )
        self.select.props("outlined dense options-dense").classes("w-full")
        self.select.props["aria-label"] = field.label

    def set_enabled(self, on: bool) -> None:
        """Enable or disable the editor."""
        self.select.set_enabled(on)

    def mark_wrong(self, wrong: bool) -> None:
        """Mark the value as valid or invalid."""
        _mark(self.select, wrong)

    def _chosen(self, place: int | None) -> None:
        if place is not None:
            self._emit(self._choices[place])

    def _render(self, value: Any) -> None:
        found = self._choices.index(value) if value in self._choices else None
        self.select.value = found


class TextBox(BrowserEditor):
    """Input for numbers, text or JSON. If it is empty, the value is not set."""

    def __init__(self, field: Field, edited: Edited) -> None:
        super().__init__(field, edited)
        suggestions = SUGGESTIONS.get(field.key)
        self.input = ui.input(
            placeholder=placeholder(field),
            autocomplete=list(suggestions) if suggestions else None,
            on_change=lambda event: self._typed(event.value or ""),
        )
        self.input.props(f"outlined dense hide-bottom-space debounce={_TYPING_MS}")
        self.input.props["aria-label"] = field.label
        self.input.classes("w-full")
        self.input.on("blur", self._left)

    def set_enabled(self, on: bool) -> None:
        """Enable or disable the editor."""
        self.input.set_enabled(on)

    def mark_wrong(self, wrong: bool) -> None:
        """Mark the value as valid or invalid."""
        _mark(self.input, wrong)

    def _typed(self, text: str) -> None:
        self._emit(self._read(text), True)

    def _left(self) -> None:
        # An empty field shows its default again.
        if not self.input.value and self._value not in (None, ...):
            self._draw(self._value)

    def _read(self, text: str) -> Any:
        return value_of(self.field, text)

    def _render(self, value: Any) -> None:
        self.input.value = text_of(self.field, value)


class IntervalBox(TextBox):
    """A number and its unit, such as steps, epochs or minutes."""

    def __init__(self, field: Field, edited: Edited) -> None:
        with ui.row(wrap=False).classes("w-full gap-2"):
            super().__init__(field, edited)
            self.unit = ui.select(
                list(units_of(field)),
                value=units_of(field)[0],
                on_change=lambda _: self._unit_chosen(),
            )
            self.unit.props("outlined dense options-dense").classes("sl-unit")
            self.unit.props["aria-label"] = f"Unit of {field.label}"

    def set_enabled(self, on: bool) -> None:
        """Enable or disable the editor."""
        super().set_enabled(on)
        self.unit.set_enabled(on)

    def _unit_chosen(self) -> None:
        # An empty field has no unit that could change.
        text = self.input.value or ""
        if text.strip():
            self._emit(self._read(text))

    def _read(self, text: str) -> Any:
        return interval_value(self.field, text, str(self.unit.value))

    def _render(self, value: Any) -> None:
        number, unit = interval_parts(self.field, value)
        if unit is not None:
            self.unit.value = unit
        super()._render(number)


class PathBox(TextBox):
    """Input for paths on the server. Image folders can be chosen from a list.

    Args:
        field: field to edit.
        edited: function that is called with an edited value.
        choose: function that lets the user choose a folder, and is called with the
            present text and a function that receives the folder.
    """

    def __init__(
        self,
        field: Field,
        edited: Edited,
        choose: Callable[[str, Callable[[Path], None]], None],
    ) -> None:
        with ui.row(wrap=False).classes("w-full gap-2 items-center"):
            super().__init__(field, edited)
            if is_folder(field) and field.key == "path":
                button = ui.button(
                    "Browse…",
                    on_click=lambda: choose(self.input.value or "", self._take),
                )
                button.props("outline no-caps dense padding='4px 8px'")
                button.props["aria-label"] = f"Choose {field.label}"

    def _take(self, folder: Path) -> None:
        self.input.value = str(folder)


class ChoicesBoxes(BrowserEditor):
    """Checkbox for each value of a fixed list."""

    def __init__(self, field: Field, edited: Edited) -> None:
        super().__init__(field, edited)
        with ui.row().classes("w-full gap-x-4 gap-y-1"):
            self.boxes = {
                choice: ui.checkbox(
                    str(choice), on_change=lambda _: self._clicked()
                ).props("dense")
                for choice in field.choices
            }

    def set_enabled(self, on: bool) -> None:
        """Enable or disable the editor."""
        for box in self.boxes.values():
            box.set_enabled(on)

    def _clicked(self) -> None:
        self._emit([name for name, box in self.boxes.items() if box.value])

    def _render(self, value: Any) -> None:
        for name, box in self.boxes.items():
            box.value = name in (value or ())


class LinesBox(BrowserEditor):
    """Multi-line editor for lists of strings or numbers, one per line."""

    def __init__(self, field: Field, edited: Edited) -> None:
        super().__init__(field, edited)
        self.text = ui.textarea(
            placeholder="one per line",
            on_change=lambda event: self._typed(event.value or ""),
        )
        self.text.props(f"outlined dense hide-bottom-space debounce={_TYPING_MS}")
        self.text.props["rows"] = 3
        self.text.props["aria-label"] = field.label
        self.text.classes("w-full")

    def set_enabled(self, on: bool) -> None:
        """Enable or disable the editor."""
        self.text.set_enabled(on)

    def mark_wrong(self, wrong: bool) -> None:
        """Mark the value as valid or invalid."""
        _mark(self.text, wrong)

    def _typed(self, text: str) -> None:
        self._emit(lines_value(self.field, text), True)

    def _render(self, value: Any) -> None:
        self.text.value = "\n".join(str(entry) for entry in value or ())


def _mark(element: ui.element, wrong: bool) -> None:
    """Draw the frame of an element in the color of errors."""
    if bool(element.props.get("error")) != wrong:
        element.props["error"] = wrong
        element.props["no-error-icon"] = True
