"""Sample images of a run: a row for each prompt, a column for each step."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from PySide6.QtCore import (
    QAbstractTableModel,
    QItemSelectionModel,
    QModelIndex,
    QObject,
    QPersistentModelIndex,
    QSize,
    Qt,
    QUrl,
)
from PySide6.QtGui import QDesktopServices, QIcon
from PySide6.QtWidgets import (
    QAbstractItemView,
    QHeaderView,
    QLabel,
    QSplitter,
    QTableView,
    QVBoxLayout,
    QWidget,
)

from ..controllers.run_record import RunRecord
from ..controllers.sample_grid import NO_SAMPLES, sample_grid
from .image_comparison import Comparison
from .thumbnails import SIDE, ThumbnailModel

__all__ = ["Gallery", "SampleTable"]

Index = QModelIndex | QPersistentModelIndex
_PROMPT_WIDTH = 120


class SampleTable(QAbstractTableModel):
    """Table of sample images. Thumbnails are loaded in a thread when first shown.

    Attributes:
        prompts: prompt of each row.
        steps: training step of each column, in ascending order.
    """

    def __init__(self, parent: QObject) -> None:
        super().__init__(parent)
        self.prompts: list[str] = []
        self.steps: list[int] = []
        self._paths: dict[tuple[int, int], Path] = {}
        self._rows: dict[Path, int] = {}
        """Row of each image in the list of thumbnails."""

        self._places: list[tuple[int, int]] = []
        self._thumbnails = ThumbnailModel(self)
        self._thumbnails.dataChanged.connect(self._arrived)

    def show_record(self, record: RunRecord) -> bool:
        """Show the sample images of a run. Return whether there are new ones."""
        found = sample_grid(record)
        paths = found.paths
        if paths == self._paths:
            return False
        self.beginResetModel()
        self.prompts, self.steps = list(found.prompts), list(found.steps)
        self._paths, self._places = paths, list(paths)
        self._rows = {path: row for row, path in enumerate(paths.values())}
        self._thumbnails.show_paths(list(paths.values()))
        self.endResetModel()
        return True

    def path(self, row: int, column: int) -> Path | None:
        """Return the file of an image."""
        return self._paths.get((row, column))

    def rowCount(self, parent: Index = QModelIndex()) -> int:  # noqa: B008
        """Return the number of prompts."""
        return 0 if parent.isValid() else len(self.prompts)

    def columnCount(self, parent: Index = QModelIndex()) -> int:  # noqa: B008
        """Return the number of steps with sample images."""
        return 0 if parent.isValid() else len(self.steps)

    def data(self, index: Index, role: int = Qt.ItemDataRole.DisplayRole) -> Any:
        """Return the thumbnail or tooltip of an image."""
        path = self.path(index.row(), index.column())
        if path is None:
            return None
        if role == Qt.ItemDataRole.DecorationRole:
            row = self._rows[path]
            image = self._thumbnails.data(self._thumbnails.index(row), role)
            icon = QIcon(image)
            # By default, the image of a selected cell is tinted.
            icon.addPixmap(image, QIcon.Mode.Selected)
            return icon
        if role == Qt.ItemDataRole.ToolTipRole:
            return f"{self.prompts[index.row()]}\n{path}"
        if role == Qt.ItemDataRole.AccessibleTextRole:
            return f"step {self.steps[index.column()]}: {self.prompts[index.row()]}"
        return None

    def headerData(
        self,
        section: int,
        orientation: Qt.Orientation,
        role: int = Qt.ItemDataRole.DisplayRole,
    ) -> Any:
        """Return the step of a column, or the prompt of a row."""
        if role not in (Qt.ItemDataRole.DisplayRole, Qt.ItemDataRole.ToolTipRole):
            return None
        if orientation == Qt.Orientation.Horizontal:
            return f"step {self.steps[section]}"
        return self.prompts[section]

    def finish(self) -> None:
        """Stop the thread."""
        self._thumbnails.wait()

    def _arrived(self, index: QModelIndex) -> None:
        changed = self.index(*self._places[index.row()])
        self.dataChanged.emit(changed, changed)


class Gallery(QWidget):
    """Table of sample images, and the selected one beside the first of its prompt."""

    def __init__(self) -> None:
        super().__init__()
        self.model = SampleTable(self)
        self.view = _view(self.model)
        self.view.selectionModel().currentChanged.connect(self._compare)
        self.view.activated.connect(self._open)
        self.comparison = Comparison()
        self._both = QSplitter(Qt.Orientation.Horizontal)
        self._both.addWidget(self.view)
        self._both.addWidget(self.comparison)
        self._both.setStretchFactor(0, 3)
        self._both.setStretchFactor(1, 2)
        self.empty = QLabel(NO_SAMPLES, alignment=Qt.AlignmentFlag.AlignCenter)
        self.empty.setWordWrap(True)
        column = QVBoxLayout(self)
        column.setContentsMargins(0, 0, 0, 0)
        column.addWidget(self.empty)
        column.addWidget(self._both)
        self._show_empty(True)

    def show_record(self, record: RunRecord) -> None:
        """Show the sample images of a run.

        The newest image is selected, unless the user has selected an earlier one.
        """
        old, steps = self.view.currentIndex(), self.model.steps
        earlier = old.isValid() and old.column() < len(steps) - 1
        step = steps[old.column()] if earlier else None
        if not self.model.show_record(record):
            return
        self._show_empty(not self.model.prompts)
        steps, rows = self.model.steps, len(self.model.prompts)
        column = steps.index(step) if step in steps else len(steps) - 1
        chosen = self.model.index(min(max(0, old.row()), rows - 1), column)
        flag = QItemSelectionModel.SelectionFlag.ClearAndSelect
        self.view.selectionModel().setCurrentIndex(chosen, flag)
        self.view.scrollTo(chosen)
        if not chosen.isValid():
            self.comparison.clear()

    def finish(self) -> None:
        """Stop the threads."""
        self.model.finish()
        self.comparison.finish()

    def _show_empty(self, empty: bool) -> None:
        self.empty.setVisible(empty)
        self._both.setVisible(not empty)

    def _compare(self, index: QModelIndex) -> None:
        steps = self.model.steps
        before = self.model.path(index.row(), 0)
        after = self.model.path(index.row(), index.column())
        if before is not None and after is not None:
            self.comparison.compare(
                (before, f"step {steps[0]}"), (after, f"step {steps[index.column()]}")
            )

    def _open(self, index: QModelIndex) -> None:
        path = self.model.path(index.row(), index.column())
        if path is not None:
            QDesktopServices.openUrl(QUrl.fromLocalFile(str(path)))


def _view(model: SampleTable) -> QTableView:
    view = QTableView()
    view.setModel(model)
    view.setIconSize(QSize(SIDE, SIDE))
    view.setSelectionMode(QAbstractItemView.SelectionMode.SingleSelection)
    view.setVerticalScrollMode(QAbstractItemView.ScrollMode.ScrollPerPixel)
    view.setHorizontalScrollMode(QAbstractItemView.ScrollMode.ScrollPerPixel)
    view.setTabKeyNavigation(False)
    view.setAccessibleName("Sample images")
    view.setToolTip("Select an image to compare it. Double-click to open it.")
    for header in (view.horizontalHeader(), view.verticalHeader()):
        header.setSectionResizeMode(QHeaderView.ResizeMode.Fixed)
        header.setDefaultSectionSize(SIDE + 8)
    prompts = view.verticalHeader()
    prompts.setFixedWidth(_PROMPT_WIDTH)
    prompts.setDefaultAlignment(
        Qt.AlignmentFlag.AlignLeft
        | Qt.AlignmentFlag.AlignVCenter
        | Qt.AlignmentFlag(Qt.TextFlag.TextWordWrap)
    )
    return view
