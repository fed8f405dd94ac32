"""Dialog in the browser that edits many captions at once, with a preview."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence

from nicegui import ui

from ...._wording import counted
from ....data.caption_files import Change
from ...controllers.bulk_edit import (
    EDIT_KINDS,
    MOST_LISTED,
    BulkEdit,
    EditableCaptions,
    inputs_of,
    note_on_changes,
    usual_separator,
)
from .message_box import dialog_box

__all__ = ["open_bulk_edit"]


def open_bulk_edit(
    captions: EditableCaptions,
    write: Callable[[Sequence[Change], str], Awaitable[None]],
) -> None:
    """Show the dialog. It writes nothing itself.

    Args:
        captions: captions that can be edited.
        write: function that is called with the changes and their description.
    """
    with dialog_box() as dialog:
        _BulkEditBox(captions, write, dialog)


class _BulkEditBox:
    def __init__(
        self,
        captions: EditableCaptions,
        write: Callable[[Sequence[Change], str], Awaitable[None]],
        dialog: ui.dialog,
    ) -> None:
        self._captions, self._write, self._dialog = captions, write, dialog
        self._changes: list[Change] = []
        ui.label("Edit captions").classes("sl-title")
        scopes, kinds = list(captions.scopes), list(EDIT_KINDS)
        look = self._refresh
        self.scope = ui.select(
            scopes, value=captions.proposed, label="Images", on_change=look
        )
        self.kind = ui.select(kinds, value=kinds[0], label="Edit", on_change=look)
        separator = usual_separator(captions.delimiter)
        self.text = ui.input("Text", value=captions.trigger, on_change=look)
        self.separator = ui.input("Separator", value=separator, on_change=look)
        self.old = ui.input("Find", on_change=look)
        self.new = ui.input("Replace by", on_change=look)
        for element in (self.scope, self.kind):
            element.props("outlined dense options-dense").classes("w-full")
        for line in (self.text, self.separator, self.old, self.new):
            line.props("outlined dense debounce=200").classes("w-full")
        with ui.row() as self.options:
            self.case = ui.checkbox("Match case", on_change=look)
            self.words = ui.checkbox("Whole words", on_change=look)
        columns = [
            {"name": name, "label": name, "field": name, "align": "left"}
            for name in ("File", "Before", "After")
        ]
        self.table = ui.table(columns=columns, rows=[], row_key="File", pagination=8)
        self.table.props("dense flat wrap-cells").classes("w-full sl-list")
        self.note = ui.label().classes("sl-quiet")
        with ui.row().classes("w-full justify-end"):
            ui.button("Cancel", on_click=dialog.close).props("no-caps flat")
            self.apply = ui.button("Change", on_click=self._accept)
            self.apply.props("no-caps unelevated")
        self._refresh()

    def _edit(self) -> BulkEdit:
        return BulkEdit(
            kind=str(self.kind.value),
            text=self.text.value or "",
            separator=self.separator.value or "",
            old=self.old.value or "",
            new=self.new.value or "",
            match_case=bool(self.case.value),
            whole_words=bool(self.words.value),
        )

    def _refresh(self) -> None:
        wanted = inputs_of(str(self.kind.value))
        for name, element in (
            ("text", self.text),
            ("separator", self.separator),
            ("old", self.old),
            ("new", self.new),
            ("options", self.options),
        ):
            element.set_visibility(name in wanted)
        found = self._captions.scopes[str(self.scope.value)]
        delimiter, extension = self._captions.delimiter, self._captions.extension
        self._changes = self._edit().changes(found, delimiter, extension)
        self.table.rows = [
            {"File": change.path.name, "Before": change.before, "After": change.after}
            for change in self._changes[:MOST_LISTED]
        ]
        count = counted(len(self._changes), "caption", "captions")
        self.apply.set_text(f"Change {count}")
        self.apply.set_enabled(bool(self._changes))
        self.note.set_text(note_on_changes(len(self._changes), len(found)))

    async def _accept(self) -> None:
        self._dialog.close()
        await self._write(self._changes, self._edit().title)
