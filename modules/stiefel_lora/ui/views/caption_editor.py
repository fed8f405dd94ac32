"""Editor of the caption of one image, with the image."""

from __future__ import annotations

import functools
from pathlib import Path

from PySide6.QtCore import QMimeData, QTimer, Signal
from PySide6.QtWidgets import (
    QHBoxLayout,
    QPlainTextEdit,
    QPushButton,
    QVBoxLayout,
    QWidget,
)

from ..._exceptions import OutputError
from ...config.caption_extension import TEXT
from ..controllers.caption_state import NO_CAPTION, CaptionState
from .basics import Note
from .fitted_image import FittedImage
from .image_loading import Loaded, load_image
from .theme import ERROR, QUIET, REMARK
from .worker_thread import Background

__all__ = ["CaptionEditor"]

_SAVE_MS = 800
_BIG = 180


class CaptionText(QPlainTextEdit):
    """Text that does not take files, so that they can be dropped on the tab."""

    def canInsertFromMimeData(self, source: QMimeData) -> bool:
        """Refuse files, whose addresses would be saved as a caption."""
        return not source.hasUrls() and super().canInsertFromMimeData(source)


class CaptionEditor(QWidget):
    """Editor that saves a caption after the last keystroke.

    ``saved`` emits the image. A caption file that another program changed in the
    meantime is never replaced without a question.
    """

    saved = Signal(object)

    def __init__(self) -> None:
        super().__init__()
        self.path: Path | None = None
        """Image that is shown."""

        self.most_megapixels = 0.0
        self.preview = FittedImage(_BIG)
        self.caption = CaptionText()
        self.caption.setAccessibleName("Caption")
        self.caption.setPlaceholderText("Caption")
        self.caption.setTabChangesFocus(True)
        self.caption.textChanged.connect(self._typed)
        self.note = Note()
        self.keep = QPushButton("Save my text")
        self.keep.clicked.connect(self._keep)
        self.take = QPushButton("Use the file")
        self.take.clicked.connect(self._take)
        self.extension = TEXT
        self._state: CaptionState | None = None
        self._locked = False
        self._timer = QTimer(self, singleShot=True, interval=_SAVE_MS)
        self._timer.timeout.connect(self.save)
        self._thread = Background(self)
        self._thread.done.connect(self._arrived)
        self._arrange()

    def show_image(
        self, path: Path | None, caption: str = "", locked: str = ""
    ) -> None:
        """Show an image and its caption file.

        Args:
            path: the image, or None to show nothing.
            caption: caption that is used if there is no caption file.
            locked: reason why the caption cannot be edited, or "".
        """
        self.path = path
        self._ask(False)
        self.preview.show_text("")
        if path is None:
            self._show_text("", enabled=False)
            self.note.say("", QUIET)
            return
        self.load_preview()
        self._locked = bool(locked)
        self._show_caption(path, caption, locked)

    def load_preview(self) -> None:
        """Load the image again."""
        if self.path is None:
            return
        most = {"most": self.most_megapixels} if self.most_megapixels else {}
        load = functools.partial(load_image, self.path, _BIG, **most)
        self._thread.start_instead(self.path, load)

    def look_again(self, caption: str = "") -> None:
        """Show a caption file that another program has changed."""
        if self.path is None or self._locked:
            return
        if self._state is None or not self._state.is_foreign:
            return
        if self.is_edited:
            self._ask(True)
        else:
            self._show_caption(self.path, caption, "")

    @property
    def is_edited(self) -> bool:
        """Return whether there is text that is not saved."""
        return self.path is not None and self.caption.document().isModified()

    def save(self) -> bool:
        """Save the caption if it was edited. Return False if a question is open."""
        self._timer.stop()
        if self.path is None or not self.is_edited:
            return True
        if self._state is not None and self._state.is_foreign:
            self._ask(True)
            return False
        self._write(self.path)
        return True

    def save_anyway(self) -> None:
        """Save the caption. The text of another program is kept in a ``.bak`` file."""
        if self.save() or self.path is None or self._state is None:
            return
        try:
            self._state.keep_other()
        except OutputError as error:
            self.note.say(str(error), ERROR)
            return
        self._write(self.path)

    def finish(self) -> None:
        """Save the caption and stop the thread."""
        self.save_anyway()
        self._thread.finish()

    def _write(self, path: Path) -> None:
        state = self._state or CaptionState(path, self.extension)
        try:
            state.write(self.caption.toPlainText())
        except OutputError as error:
            self.note.say(str(error), ERROR)
            return
        self.caption.document().setModified(False)
        self._ask(False)
        self.note.say(state.confirmation, QUIET)
        self.saved.emit(path)

    def _show_caption(self, path: Path, caption: str, locked: str) -> None:
        self._state = CaptionState(path, self.extension)
        text, wrong = self._state.read(caption), self._state.problem
        self._show_text(text, enabled=not wrong and not locked)
        missing = "" if text else NO_CAPTION
        self.note.say(wrong or locked or missing, ERROR if wrong else QUIET)

    def _show_text(self, text: str, *, enabled: bool) -> None:
        self.caption.blockSignals(True)
        self.caption.setPlainText(text)
        self.caption.document().setModified(False)
        self.caption.blockSignals(False)
        self.caption.setEnabled(enabled)

    def _typed(self) -> None:
        self._timer.start()

    def _ask(self, wanted: bool) -> None:
        self.keep.setVisible(wanted)
        self.take.setVisible(wanted)
        if wanted and self._state is not None:
            self.note.say(self._state.question, REMARK)

    def _keep(self) -> None:
        if self.path is not None:
            self._write(self.path)

    def _take(self) -> None:
        if self.path is not None:
            self._ask(False)
            self._show_caption(self.path, "", "")

    def _arrived(self, path: Path, loaded: Loaded) -> None:
        if path != self.path:
            return
        if loaded.image.isNull():
            self.preview.show_text(f"This image cannot be read: {loaded.reason}")
        else:
            self.preview.show_image(loaded.image)

    def _arrange(self) -> None:
        answers = QHBoxLayout()
        answers.addWidget(self.keep)
        answers.addWidget(self.take)
        answers.addStretch(1)
        column = QVBoxLayout()
        column.addWidget(self.caption, 1)
        column.addWidget(self.note)
        column.addLayout(answers)
        row = QHBoxLayout(self)
        row.setContentsMargins(0, 0, 0, 0)
        row.addWidget(self.preview)
        row.addLayout(column, 1)
        self._ask(False)
