"""Page with a histogram of buckets and a list of problems."""

from __future__ import annotations

import functools
from pathlib import Path

from PySide6.QtCore import Qt, Signal
from PySide6.QtWidgets import (
    QHeaderView,
    QLabel,
    QListWidget,
    QListWidgetItem,
    QProgressBar,
    QSplitter,
    QTableWidget,
    QTableWidgetItem,
    QVBoxLayout,
    QWidget,
)

from ...config import TrainConfig
from ..controllers.survey import Survey, survey
from .worker_thread import Background

__all__ = ["SurveyPage"]

_HEADINGS = ("Size", "Images", "")
_PATH = Qt.ItemDataRole.UserRole
# Maximum number of problems in the list.
_MOST_PROBLEMS = 1000


class SurveyPage(QWidget):
    """Page with the survey. ``chosen`` emits the image of a clicked problem."""

    chosen = Signal(Path)
    surveyed = Signal(object)

    def __init__(self) -> None:
        super().__init__()
        self.summary = QLabel()
        self.summary.setWordWrap(True)
        self.table = QTableWidget(0, len(_HEADINGS))
        self.table.setHorizontalHeaderLabels(_HEADINGS)
        self.table.verticalHeader().hide()
        self.table.setAccessibleName("Buckets")
        self.table.setTabKeyNavigation(False)
        self.table.setEditTriggers(QTableWidget.EditTrigger.NoEditTriggers)
        header = self.table.horizontalHeader()
        header.setSectionResizeMode(QHeaderView.ResizeMode.ResizeToContents)
        header.setSectionResizeMode(2, QHeaderView.ResizeMode.Stretch)
        self.problems = QListWidget()
        self.problems.setAccessibleName("Problems")
        self.problems.itemActivated.connect(self._choose)
        self.problems.itemClicked.connect(self._choose)
        both = QSplitter(Qt.Orientation.Vertical)
        both.addWidget(self.table)
        both.addWidget(self.problems)
        column = QVBoxLayout(self)
        column.addWidget(self.summary)
        column.addWidget(both, 1)
        self._thread = Background(self)
        self._thread.done.connect(self._arrived)
        self._turn = 0

    def look(self, config: TrainConfig) -> None:
        """Start a survey of the images in a thread. An earlier survey is stopped."""
        self._turn += 1
        self.summary.setText("Scanning images…")
        self._thread.start_instead(self._turn, functools.partial(survey, config))

    def finish(self) -> None:
        """Stop the thread."""
        self._turn += 1
        self._thread.finish()

    def _arrived(self, turn: int, found: Survey) -> None:
        if turn != self._turn:
            return
        self.summary.setText(found.summary)
        self._show_buckets(found)
        self.problems.clear()
        for problem in found.problems[:_MOST_PROBLEMS]:
            item = QListWidgetItem(f"{problem.path.name}: {problem.message}")
            item.setToolTip(str(problem.path))
            item.setData(_PATH, str(problem.path))
            self.problems.addItem(item)
        rest = len(found.problems) - _MOST_PROBLEMS
        if rest > 0:
            self.problems.addItem(f"and {rest} more")
        self.surveyed.emit(found)

    def _show_buckets(self, found: Survey) -> None:
        most = max(found.buckets.values(), default=1)
        rows = sorted(found.buckets.items(), key=lambda item: item[0][0] / item[0][1])
        self.table.setRowCount(len(rows))
        for row, ((width, height), count) in enumerate(rows):
            self.table.setItem(row, 0, QTableWidgetItem(f"{width} x {height}"))
            number = QTableWidgetItem(str(count))
            number.setTextAlignment(
                Qt.AlignmentFlag.AlignRight | Qt.AlignmentFlag.AlignVCenter
            )
            self.table.setItem(row, 1, number)
            bar = QProgressBar()
            bar.setTextVisible(False)
            bar.setRange(0, most)
            bar.setValue(count)
            self.table.setCellWidget(row, 2, bar)

    def _choose(self, item: QListWidgetItem) -> None:
        path = item.data(_PATH)
        if path:
            self.chosen.emit(Path(path))
