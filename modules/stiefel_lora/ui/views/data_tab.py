"""Data tab: settings of the data, thumbnails, captions and problems."""

from __future__ import annotations

from pathlib import Path

from PySide6.QtCore import QModelIndex, QSize, Qt, QTimer
from PySide6.QtGui import QPixmap
from PySide6.QtWidgets import (
    QHBoxLayout,
    QLabel,
    QPlainTextEdit,
    QSplitter,
    QTabWidget,
    QVBoxLayout,
    QWidget,
)

from ..._exceptions import OutputError
from ...config import Concept, TrainConfig
from ...data import buckets_of
from ..controllers.image_captions import Shelf, caption_of, open_shelf, write_caption
from ..controllers.survey import Survey
from .basics import Combo, Note, scrolled
from .survey_page import SurveyPage
from .theme import ERROR, QUIET
from .thumbnails import ThumbnailModel, thumbnail_view

__all__ = ["DataTab"]

_SAVE_MS = 800
_BIG = 200
_NOTHING = "Add an image folder on the left to show its images and captions here."
_MISSING = "No caption yet. It is saved next to the image."


class DataTab(QSplitter):
    """Tab with the data settings on the left and the images of a folder on the right.

    Args:
        settings: form of the data settings.
    """

    def __init__(self, settings: QWidget) -> None:
        super().__init__(Qt.Orientation.Horizontal)
        self.folders = Combo()
        self.folders.setAccessibleName("Image folder")
        self.folders.currentIndexChanged.connect(self._open_folder)
        self.model = ThumbnailModel(self)
        self.list = thumbnail_view(self.model)
        self.list.selectionModel().currentChanged.connect(self._show_image)
        self.message = Note()
        self.preview = QLabel()
        self.preview.setFixedSize(QSize(_BIG, _BIG))
        self.preview.setAlignment(Qt.AlignmentFlag.AlignCenter)
        self.caption = QPlainTextEdit()
        self.caption.setAccessibleName("Caption")
        self.caption.setTabChangesFocus(True)
        self.caption.textChanged.connect(self._typed)
        self.saved = Note()
        self._shown: Path | None = None
        self._save_timer = QTimer(self, singleShot=True, interval=_SAVE_MS)
        self._save_timer.timeout.connect(self.save_caption)
        self.below = QTabWidget()
        self.survey = SurveyPage()
        self.survey.surveyed.connect(self._mark)
        self.survey.chosen.connect(self._go_to)
        self._question: object = None
        self._concepts: list[Concept] = []
        self._shelf = Shelf()
        self._arrange(settings)

    def take_up(self, config: TrainConfig | None) -> None:
        """Show the image folders of the current settings.

        Args:
            config: validated settings for the survey. None if they are invalid.
        """
        if config is None:
            return
        self._refresh_folders(config)
        concepts = (*config.concepts, *config.validation_concepts)
        question = (concepts, buckets_of(config), config.batch_size)
        if question != self._question:
            self._question = question
            self.survey.look(config)

    def _mark(self, found: Survey) -> None:
        count = len(found.problems)
        title = f"Buckets and problems ({count})" if count else "Buckets"
        self.below.setTabText(1, title)
        self.model.mark({problem.path: problem.message for problem in found.problems})

    def _go_to(self, path: Path) -> None:
        """Show the image that has a problem."""
        for row in range(self.folders.count()):
            if Path(self.folders.itemData(row)) == path.parent:
                self.folders.setCurrentIndex(row)
        if path in self.model.paths:
            self.below.setCurrentIndex(0)
            self.list.setCurrentIndex(self.model.index(self.model.paths.index(path)))
            self.caption.setFocus()

    def _refresh_folders(self, config: TrainConfig) -> None:
        found = [*config.concepts, *config.validation_concepts]
        if found == self._concepts:
            return
        chosen = self.folders.currentData()
        self._concepts = found
        self.folders.blockSignals(True)
        self.folders.clear()
        for place, concept in enumerate(found):
            suffix = "" if place < len(config.concepts) else "  (validation)"
            self.folders.addItem(concept.path.name + suffix, str(concept.path))
            self.folders.setItemData(
                place, str(concept.path), Qt.ItemDataRole.ToolTipRole
            )
        self.folders.setCurrentIndex(max(0, self.folders.findData(chosen)))
        self.folders.blockSignals(False)
        self._open_folder()

    def save_caption(self) -> None:
        """Save the caption if it was edited."""
        self._save_timer.stop()
        if self._shown is None or not self.caption.document().isModified():
            return
        try:
            write_caption(self._shown, self.caption.toPlainText())
        except OutputError as error:
            self.saved.say(str(error), ERROR)
            return
        self.caption.document().setModified(False)
        self.model.unmark(self._shown)
        self.saved.say(f"Saved {self._shown.with_suffix('.txt').name}.", QUIET)

    def finish(self) -> None:
        """Save unsaved changes and stop the thread."""
        self.save_caption()
        self.model.wait()
        self.survey.finish()

    def _open_folder(self) -> None:
        self.save_caption()
        place = self.folders.currentIndex()
        known = 0 <= place < len(self._concepts)
        shelf = open_shelf(self._concepts[place]) if known else Shelf(message=_NOTHING)
        self._shelf = shelf
        self.model.show_paths(list(shelf.captions))
        tone = ERROR if known and shelf.message else QUIET
        self.message.say(shelf.message or _count(shelf), tone)
        self._show_nothing()
        if shelf.captions:
            self.list.setCurrentIndex(self.model.index(0))

    def _show_nothing(self) -> None:
        self._shown = None
        self.preview.clear()
        self._show_text("", enabled=False)
        self.saved.say("", QUIET)

    def _show_image(self, index: QModelIndex, _before: QModelIndex) -> None:
        self.save_caption()
        if not index.isValid():
            self._show_nothing()
            return
        path = self._shown = self.model.paths[index.row()]
        image = QPixmap(str(path))
        if not image.isNull():
            image = image.scaled(
                self.preview.size(),
                Qt.AspectRatioMode.KeepAspectRatio,
                Qt.TransformationMode.SmoothTransformation,
            )
        self.preview.setPixmap(image)
        text, wrong = caption_of(path)
        text = self._shelf.captions[path] if text is None else text
        locked = self._shelf.locked
        self._show_text(text, enabled=not wrong and not locked)
        missing = "" if text else _MISSING
        self.saved.say(wrong or locked or missing, ERROR if wrong else QUIET)

    def _show_text(self, text: str, *, enabled: bool) -> None:
        self.caption.blockSignals(True)
        self.caption.setPlainText(text)
        self.caption.document().setModified(False)
        self.caption.blockSignals(False)
        self.caption.setEnabled(enabled)

    def _typed(self) -> None:
        self._save_timer.start()

    def _arrange(self, settings: QWidget) -> None:
        self.caption.setPlaceholderText("Caption")
        editor = QVBoxLayout()
        editor.addWidget(self.caption, 1)
        editor.addWidget(self.saved)
        detail = QHBoxLayout()
        detail.addWidget(self.preview)
        detail.addLayout(editor, 1)
        images = QWidget()
        column = QVBoxLayout(images)
        column.addWidget(self.list, 1)
        column.addLayout(detail)
        self.below.addTab(images, "Images and captions")
        self.below.addTab(self.survey, "Buckets")
        right = QWidget()
        column = QVBoxLayout(right)
        for widget in (self.folders, self.message):
            column.addWidget(widget)
        column.addWidget(self.below, 1)
        self.addWidget(scrolled(settings))
        self.addWidget(right)
        self.setStretchFactor(0, 2)
        self.setStretchFactor(1, 3)
        self.setSizes([460, 720])


def _count(shelf: Shelf) -> str:
    without = sum(not caption for caption in shelf.captions.values())
    count = len(shelf.captions)
    images = "1 image" if count == 1 else f"{count} images"
    return f"{images}, {without} without caption." if without else f"{images}."
