"""Buttons in the browser that change many captions, and undo the last change."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

from nicegui import ui

from ....data.caption_files import Change
from ...controllers.bulk_edit import EditableCaptions
from ...controllers.caption_journal import (
    edited_captions,
    title_of_last_edit,
    undo_last_edit,
)
from .auto_caption_box import open_auto_captions
from .bulk_edit_box import open_bulk_edit
from .message_box import attempt_in_thread

if TYPE_CHECKING:
    from ..context import WebContext

__all__ = ["CaptionButtons", "tool_button"]


class CaptionButtons:
    """Buttons for edits of many captions.

    Args:
        context: folders of the server.
        editable: function that returns the captions that can be edited, or None.
        edited: function that is called with a message after an edit.
    """

    def __init__(
        self,
        context: WebContext,
        editable: Callable[[], EditableCaptions | None],
        edited: Callable[[str], None],
    ) -> None:
        self._context, self._editable, self._edited = context, editable, edited
        self.edit = tool_button(
            "Edit captions…",
            "Add a trigger word or text, or find and replace, in many captions.",
        )
        self.edit.on_click(self._open)
        self.generate = tool_button(
            "Write captions…", "Write captions with a tagger or a captioning model."
        )
        self.generate.on_click(self._open_captioner)
        self.undo = tool_button("Undo edit", "No edit to undo.")
        self.undo.on_click(self._undo)

    def allow(self, editable: bool) -> None:
        """Enable the buttons.

        Args:
            editable: whether the folder has captions that can be edited.
        """
        title = title_of_last_edit()
        self.edit.set_enabled(editable)
        self.generate.set_enabled(editable)
        self.undo.set_enabled(bool(title))
        self.undo.props["title"] = f"Undo: {title}" if title else "No edit to undo."

    async def write(self, changes: Sequence[Change], title: str) -> None:
        """Write changed captions."""
        text = await attempt_in_thread(lambda: edited_captions(changes, title))
        if text is not None:
            self._edited(text)

    def _open(self) -> None:
        captions = self._editable()
        if captions is not None:
            open_bulk_edit(captions, self.write)

    def _open_captioner(self) -> None:
        captions = self._editable()
        if captions is not None:
            open_auto_captions(self._context, captions, self._edited)

    async def _undo(self) -> None:
        text = await attempt_in_thread(undo_last_edit)
        if text is not None:
            self._edited(text)


def tool_button(text: str, hint: str) -> ui.button:
    """Create a button of a row of tools."""
    button = ui.button(text).props("outline no-caps dense padding='4px 10px'")
    button.props["title"] = hint
    return button
