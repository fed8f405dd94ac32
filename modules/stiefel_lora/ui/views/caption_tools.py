"""Buttons that change many captions, and undo the last of these changes."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from PySide6.QtCore import Signal
from PySide6.QtWidgets import QHBoxLayout, QPushButton, QWidget

from ..._exceptions import OutputError
from ...data.caption_edits import removed_tag, renamed_tag
from ...data.caption_files import Change, changes_by
from ..controllers.auto_captions import WrittenCaptions
from ..controllers.bulk_edit import EditableCaptions
from ..controllers.caption_journal import (
    edited_captions,
    title_of_last_edit,
    undo_last_edit,
)
from .auto_caption_dialog import AutoCaptionDialog
from .bulk_edit_dialog import BulkEditDialog

__all__ = ["CaptionTools"]


class CaptionTools(QWidget):
    """Buttons for edits of many captions.

    ``edited`` emits a message after an edit, and ``failed`` an error message.

    Args:
        ask: function that returns the current captions.
    """

    edited = Signal(str)
    failed = Signal(str)

    def __init__(self, ask: Callable[[], EditableCaptions]) -> None:
        super().__init__()
        self._ask = ask
        self.edit = QPushButton("Edit captions…")
        self.edit.setToolTip(
            "Add a trigger word or text, or find and replace, in many captions."
        )
        self.edit.clicked.connect(self._open)
        self.write_all = QPushButton("Write captions…")
        self.write_all.setToolTip("Write captions with a tagger or a captioning model.")
        self.write_all.clicked.connect(self._open_captioner)
        self.undo = QPushButton("Undo edit")
        self.undo.clicked.connect(self._undo)
        row = QHBoxLayout(self)
        row.setContentsMargins(0, 0, 0, 0)
        row.addWidget(self.edit)
        row.addWidget(self.write_all)
        row.addWidget(self.undo)
        self.allow(False)

    def allow(self, editable: bool) -> None:
        """Enable the buttons.

        Args:
            editable: whether the folder has captions that can be edited.
        """
        title = title_of_last_edit()
        self.edit.setEnabled(editable)
        self.write_all.setEnabled(editable)
        self.undo.setEnabled(bool(title))
        self.undo.setToolTip(f"Undo: {title}" if title else "No edit to undo.")

    def remove_tag(self, tag: str) -> None:
        """Remove a tag from all captions."""
        captions = self._ask()
        edit = removed_tag(tag, captions.delimiter)
        changes = changes_by(edit, captions.all, captions.extension)
        self.write(changes, f"Remove the tag {tag!r}")

    def rename_tag(self, tag: str, name: str) -> None:
        """Rename a tag in all captions."""
        captions = self._ask()
        edit = renamed_tag(tag, name, captions.delimiter)
        title = f"Rename the tag {tag!r} to {name!r}"
        self.write(changes_by(edit, captions.all, captions.extension), title)

    def write(self, changes: Sequence[Change], title: str) -> None:
        """Write changed captions."""
        try:
            text = edited_captions(changes, title)
        except OutputError as error:
            self.failed.emit(f"No caption was changed. {error}")
            return
        self.edited.emit(text)

    def _open(self) -> None:
        found = self._ask()
        dialog = BulkEditDialog(
            found.scopes,
            found.trigger,
            found.delimiter,
            self,
            extension=found.extension,
        )
        dialog.scope.setCurrentText(found.proposed)
        if dialog.exec():
            self.write(dialog.changes, dialog.title)

    def captioner(self) -> AutoCaptionDialog | None:
        """Create the dialog that writes captions with a model."""
        found = self._ask()
        try:
            written = WrittenCaptions(found)
        except OutputError as error:
            self.failed.emit(str(error))
            return None
        dialog = AutoCaptionDialog(
            found.folder, found.deep, self, extension=found.extension
        )

        def record() -> None:
            try:
                text = written.record()
            except OutputError as error:
                self.failed.emit(str(error))
                return
            self.edited.emit(text)

        dialog.changed.connect(record)
        return dialog

    def _open_captioner(self) -> None:
        dialog = self.captioner()
        if dialog is not None:
            dialog.exec()

    def _undo(self) -> None:
        # Text that is being typed is saved first, and is then kept.
        self._ask()
        try:
            text = undo_last_edit()
        except OutputError as error:
            self.failed.emit(str(error))
            return
        self.edited.emit(text)
