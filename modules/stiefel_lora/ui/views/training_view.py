"""View of an image and its captions as they are used in training."""

from __future__ import annotations

import functools

from PySide6.QtGui import QColor, QShowEvent
from PySide6.QtWidgets import (
    QHBoxLayout,
    QHeaderView,
    QTableWidget,
    QTableWidgetItem,
    QVBoxLayout,
    QWidget,
)

from ...config import TrainConfig
from ...data.folder import CaptionedImage
from ...data.unreadable import UnreadableImage
from ..controllers.training_preview import TrainedImage, Use, trained_image, uses_of
from .basics import Note
from .fitted_image import FittedImage
from .image_loading import Loaded, load_crop
from .theme import ERROR, QUIET, color
from .worker_thread import Background

__all__ = ["TrainingView"]

_BIG = 180


class TrainingView(QWidget):
    """Table with the captions of the first uses of an image, and the crop of one."""

    def __init__(self) -> None:
        super().__init__()
        self.crop = FittedImage(_BIG)
        self.note = Note()
        self.table = QTableWidget(0, 2)
        self.table.setHorizontalHeaderLabels(["Use", "Caption in training"])
        self.table.verticalHeader().hide()
        self.table.setAccessibleName("Captions in training")
        self.table.setTabKeyNavigation(False)
        self.table.setEditTriggers(QTableWidget.EditTrigger.NoEditTriggers)
        self.table.setSelectionBehavior(QTableWidget.SelectionBehavior.SelectRows)
        self.table.setSelectionMode(QTableWidget.SelectionMode.SingleSelection)
        header = self.table.horizontalHeader()
        header.setSectionResizeMode(0, QHeaderView.ResizeMode.ResizeToContents)
        header.setSectionResizeMode(1, QHeaderView.ResizeMode.Stretch)
        self.table.currentCellChanged.connect(self._show_crop)
        self._question: tuple[CaptionedImage, TrainConfig, bool] | None = None
        self._shown: TrainedImage | None = None
        self._uses: list[Use] = []
        self._turn = 0
        self._thread = Background(self)
        self._thread.done.connect(self._arrived)
        self._arrange()

    def show_image(
        self, image: CaptionedImage | None, config: TrainConfig | None, training: bool
    ) -> None:
        """Show an image with the current settings.

        Args:
            image: the image with its captions, or None to show nothing.
            config: the settings.
            training: whether it is a training image and not a validation image.
        """
        self._question = (image, config, training) if image and config else None
        self._turn += 1
        if self.isVisible():
            self._refresh()

    def showEvent(self, event: QShowEvent) -> None:
        """Compute the table when the view is shown."""
        super().showEvent(event)
        self._refresh()

    def finish(self) -> None:
        """Stop the thread."""
        self._turn += 1
        self._thread.finish()

    def _refresh(self) -> None:
        row = max(0, self.table.currentRow())
        self._shown = None
        self.crop.show_text("")
        if self._question is None:
            self.table.setRowCount(0)
            self.note.say("", QUIET)
            return
        image, config, training = self._question
        try:
            self._shown = trained_image(image, config, training=training)
        except UnreadableImage as error:
            self.table.setRowCount(0)
            self.note.say(f"This image is skipped: {error}.", ERROR)
            return
        self.table.blockSignals(True)
        self._uses = uses_of(self._shown, training=training)
        self.table.setRowCount(len(self._uses))
        for number, use in enumerate(self._uses):
            self._fill(number, use)
        self.table.blockSignals(False)
        self.table.setCurrentCell(min(row, self.table.rowCount() - 1), 1)
        self._show_crop(self.table.currentRow())

    def _fill(self, number: int, use: Use) -> None:
        item = QTableWidgetItem(use.shown)
        if not use.caption:
            item.setForeground(QColor(color(QUIET)))
        item.setToolTip(use.caption)
        self.table.setItem(number, 0, QTableWidgetItem(str(number + 1)))
        self.table.setItem(number, 1, item)

    def _show_crop(self, row: int, *_: int) -> None:
        if self._shown is None or row < 0:
            return
        self.note.say(self._uses[row].description, QUIET)
        self._turn += 1
        crop = functools.partial(self._shown.crop, row)
        self._thread.start_instead(self._turn, functools.partial(load_crop, crop, _BIG))

    def _arrived(self, turn: int, loaded: Loaded) -> None:
        if turn != self._turn:
            return
        if loaded.image.isNull():
            self.crop.show_text(f"This image cannot be read: {loaded.reason}")
        else:
            self.crop.show_image(loaded.image)

    def _arrange(self) -> None:
        column = QVBoxLayout()
        column.addWidget(self.table, 1)
        column.addWidget(self.note)
        row = QHBoxLayout(self)
        row.setContentsMargins(0, 0, 0, 0)
        row.addWidget(self.crop)
        row.addLayout(column, 1)
