"""The Data tab: settings of the pictures, thumbnails, captions, problems."""

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
from ...config import TrainConfig
from ...data import buckets_of
from ..controllers.document import Document
from ..controllers.pictures import caption_of, open_shelf, write_caption
from ..controllers.survey import Survey
from .basics import Combo, Note, scrolled
from .survey_page import SurveyPage
from .theme import ERROR, QUIET
from .thumbnails import ThumbnailModel, thumbnail_view

__all__ = ["DataTab"]

_SAVE_MS = 800
_BIG = 200
_NOTHING = "Add a picture folder on the left; its pictures and captions appear here."


class DataTab(QSplitter):
    """Settings on the left, the pictures of a chosen folder on the right.

    Args:
        settings: the form of the data settings.
        document: where the folders stand.
    """

    def __init__(self, settings: QWidget, document: Document) -> None:
        super().__init__(Qt.Orientation.Horizontal)
        self._document = document
        self.folders = Combo()
        self.folders.setAccessibleName("Picture folder")
        self.folders.currentIndexChanged.connect(self._open_folder)
        self.model = ThumbnailModel(self)
        self.list = thumbnail_view(self.model)
        self.list.selectionModel().currentChanged.connect(self._show_picture)
        self.message = Note()
        self.picture = QLabel()
        self.picture.setFixedSize(QSize(_BIG, _BIG))
        self.picture.setAlignment(Qt.AlignmentFlag.AlignCenter)
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
        self._arrange(settings)

    def take_up(self, config: TrainConfig | None) -> None:
        """Take up the folders of the document.

        Args:
            config: the checked settings, for the survey; None while they are wrong.
        """
        self._refresh_folders()
        if config is not None:
            self._survey(config)

    def _survey(self, config: TrainConfig) -> None:
        """Survey the pictures anew if what it depends on has changed."""
        concepts = (*config.concepts, *config.validation_concepts)
        folders = list(dict.fromkeys(concept.path for concept in concepts))
        question = (folders, buckets_of(config))
        if question != self._question:
            self._question = question
            self.survey.look(folders, config)

    def _mark(self, found: Survey) -> None:
        count = len(found.problems)
        title = f"Buckets and problems ({count})" if count else "Buckets"
        self.below.setTabText(1, title)
        self.model.mark({problem.path: problem.sentence for problem in found.problems})

    def _go_to(self, path: Path) -> None:
        """Show the picture of a problem."""
        for row in range(self.folders.count()):
            if Path(self.folders.itemData(row)) == path.parent:
                self.folders.setCurrentIndex(row)
        if path in self.model.paths:
            self.below.setCurrentIndex(0)
            self.list.setCurrentIndex(self.model.index(self.model.paths.index(path)))
            self.caption.setFocus()

    def _refresh_folders(self) -> None:
        found = [
            (str(record.get("path", "")), kind)
            for key, kind in (("concepts", ""), ("validation_concepts", "  (held out)"))
            for record in self._document.value(key) or ()
            if isinstance(record, dict) and record.get("path")
        ]
        known = [self.folders.itemData(i) for i in range(self.folders.count())]
        if [path for path, _ in found] == known:
            return
        chosen = self.folders.currentData()
        self.folders.blockSignals(True)
        self.folders.clear()
        for path, kind in found:
            self.folders.addItem(Path(path).name + kind, path)
            self.folders.setItemData(
                self.folders.count() - 1, path, Qt.ItemDataRole.ToolTipRole
            )
        paths = [path for path, _ in found]
        self.folders.setCurrentIndex(paths.index(chosen) if chosen in paths else 0)
        self.folders.blockSignals(False)
        self._open_folder()

    def save_caption(self) -> None:
        """Write the caption that was edited, if it was."""
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
        """Write what is unsaved and let the thread end."""
        self.save_caption()
        self.model.wait()
        self.survey.finish()

    def _open_folder(self) -> None:
        self.save_caption()
        path = self.folders.currentData()
        if not path:
            self.model.show_paths([])
            self.message.say(_NOTHING, QUIET)
            self._show_nothing()
            return
        shelf = open_shelf(Path(path))
        self.model.show_paths(list(shelf.paths))
        self.message.say(shelf.message or _count(shelf.paths), QUIET)
        self._show_nothing()
        if shelf.paths:
            self.list.setCurrentIndex(self.model.index(0))

    def _show_nothing(self) -> None:
        self._shown = None
        self.picture.clear()
        self._show_text("", enabled=False)
        self.saved.say("", QUIET)

    def _show_picture(self, index: QModelIndex, _before: QModelIndex) -> None:
        self.save_caption()
        if not index.isValid():
            self._show_nothing()
            return
        path = self._shown = self.model.paths[index.row()]
        picture = QPixmap(str(path))
        if not picture.isNull():
            picture = picture.scaled(
                self.picture.size(),
                Qt.AspectRatioMode.KeepAspectRatio,
                Qt.TransformationMode.SmoothTransformation,
            )
        self.picture.setPixmap(picture)
        text, wrong = caption_of(path)
        self._show_text(text or "", enabled=not wrong)
        missing = "No caption yet: what you write is saved beside the picture."
        self.saved.say(wrong or ("" if text else missing), ERROR if wrong else QUIET)

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
        detail.addWidget(self.picture)
        detail.addLayout(editor, 1)
        pictures = QWidget()
        column = QVBoxLayout(pictures)
        column.addWidget(self.list, 1)
        column.addLayout(detail)
        self.below.addTab(pictures, "Pictures and captions")
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


def _count(paths: tuple[Path, ...]) -> str:
    without = sum(not path.with_suffix(".txt").is_file() for path in paths)
    pictures = "1 picture" if len(paths) == 1 else f"{len(paths)} pictures"
    return f"{pictures}, {without} without a caption file." if without else pictures
