"""Thumbnails of images, which are loaded in a thread when they become visible."""

from __future__ import annotations

import functools
from collections import OrderedDict
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from PySide6.QtCore import (
    QAbstractListModel,
    QModelIndex,
    QObject,
    QPersistentModelIndex,
    QSize,
    Qt,
    Signal,
)
from PySide6.QtGui import QColor, QFontMetrics, QImage, QPainter, QPen, QPixmap
from PySide6.QtWidgets import QListView

from ..controllers.survey import Problem
from .image_loading import Loaded, load_image
from .theme import ERROR, REMARK, application, color
from .worker_thread import Background

__all__ = ["SIDE", "ThumbnailModel", "thumbnail_view"]

SIDE = 112
_KEPT = 600
Index = QModelIndex | QPersistentModelIndex
Load = Callable[[Path], Loaded]


class ThumbnailModel(QAbstractListModel):
    """List model of image files. Thumbnails are loaded when first shown.

    Args:
        parent: owner of the model.
        load: function that loads a thumbnail, called in a thread.
    """

    damaged = Signal(object, str)
    """Image that cannot be decoded, and the reason."""

    def __init__(self, parent: QObject, load: Load | None = None) -> None:
        super().__init__(parent)
        self.paths: list[Path] = []
        self.marks: dict[Path, Problem] = {}
        """Problems by image. They are shown below the names and as tooltips."""

        self.load: Load = load or functools.partial(load_image, side=SIDE)
        self._rows: dict[Path, int] = {}
        self._ready: OrderedDict[Path, QPixmap] = OrderedDict()
        self._wanted: dict[Path, int] = {}
        self._turn = 0
        self._reasons: dict[Path, str] = {}
        self._thread = Background(self)
        self._thread.done.connect(self._arrived)
        self._blank = QPixmap(SIDE, SIDE)
        self._blank.fill(QColor(0, 0, 0, 0))

    def show_paths(self, paths: list[Path]) -> None:
        """Show the given images."""
        self._thread.clear()
        self.beginResetModel()
        self.paths = paths
        self._rows = {path: row for row, path in enumerate(paths)}
        self._wanted.clear()
        self.endResetModel()

    def forget(self, path: Path) -> None:
        """Load the thumbnail of a changed image again."""
        self._ready.pop(path, None)
        self._reasons.pop(path, None)
        self._wanted.pop(path, None)
        self._update(path)

    def forget_all(self) -> None:
        """Load all thumbnails again."""
        self._thread.clear()
        for memory in (self._ready, self._reasons, self._wanted):
            memory.clear()

    def mark(self, marks: Mapping[Path, Problem]) -> None:
        """Set the problems by image."""
        self.marks = dict(marks)
        if self.paths:
            last = self.index(len(self.paths) - 1)
            self.dataChanged.emit(self.index(0), last)

    def problem_of(self, path: Path) -> Problem | None:
        """Return the problem of an image, or None."""
        found = self.marks.get(path)
        reason = self._reasons.get(path)
        if reason and (found is None or not found.skipped):
            return Problem(path, f"unreadable: {reason}", "unreadable", skipped=True)
        return found

    def row_of(self, path: Path) -> int | None:
        """Return the row of an image, or None."""
        return self._rows.get(path)

    def rowCount(self, parent: Index = QModelIndex()) -> int:  # noqa: B008
        """Return the number of images."""
        return 0 if parent.isValid() else len(self.paths)

    def data(self, index: Index, role: int = Qt.ItemDataRole.DisplayRole) -> Any:
        """Return the data of an item for the view."""
        path = self.paths[index.row()]
        problem = self.problem_of(path)
        if role == Qt.ItemDataRole.DisplayRole:
            return f"{path.name}\n{problem.short}" if problem else path.name
        if role == Qt.ItemDataRole.ToolTipRole:
            return f"{path}\n{problem.message}" if problem else str(path)
        if role == Qt.ItemDataRole.ForegroundRole and problem:
            return QColor(color(ERROR if problem.skipped else REMARK))
        if role == Qt.ItemDataRole.DecorationRole:
            return self._thumbnail(path)
        if role == Qt.ItemDataRole.SizeHintRole:
            # The view measures one item, which may have a line of text less.
            return cell_size()
        return None

    def wait(self) -> None:
        """Stop the thread."""
        self._thread.finish()

    def _thumbnail(self, path: Path) -> QPixmap:
        found = self._ready.get(path)
        if found is not None:
            self._ready.move_to_end(path)
            return _cross() if path in self._reasons else found
        if path not in self._wanted:
            self._turn += 1
            self._wanted[path] = self._turn
            key = path, self._turn
            self._thread.start(key, functools.partial(self.load, path))
        return self._blank

    def _arrived(self, key: tuple[Path, int], loaded: Loaded) -> None:
        path, turn = key
        # The file may have changed while it was read.
        if self._wanted.get(path) != turn:
            return
        del self._wanted[path]
        empty = loaded.image.isNull()
        self._ready[path] = self._blank if empty else _centered(loaded.image)
        if empty:
            self._reasons[path] = loaded.reason
            self.damaged.emit(path, loaded.reason)
        while len(self._ready) > _KEPT:
            self._ready.popitem(last=False)
        self._update(path)

    def _update(self, path: Path) -> None:
        row = self._rows.get(path)
        if row is not None:
            self.dataChanged.emit(self.index(row), self.index(row))


def cell_size() -> QSize:
    """Return the size of a thumbnail with two lines of text."""
    lines = 2 * QFontMetrics(application().font()).lineSpacing()
    return QSize(SIDE + 18, SIDE + 12 + lines)


def _centered(image: QImage) -> QPixmap:
    """Draw an image in the middle of a square, so that all names are in line."""
    drawn = QPixmap(SIDE, SIDE)
    drawn.fill(QColor(0, 0, 0, 0))
    painter = QPainter(drawn)
    left, top = (SIDE - image.width()) // 2, (SIDE - image.height()) // 2
    painter.drawImage(left, top, image)
    painter.end()
    return drawn


def _cross() -> QPixmap:
    """Draw a crossed frame in place of an image that cannot be read."""
    drawn = QPixmap(SIDE, SIDE)
    drawn.fill(QColor(0, 0, 0, 0))
    painter = QPainter(drawn)
    painter.setPen(QPen(QColor(color(ERROR)), 2))
    near, far = 8, SIDE - 8
    painter.drawRect(near, near, far - near, far - near)
    painter.drawLine(near, near, far, far)
    painter.drawLine(near, far, far, near)
    painter.end()
    return drawn


def thumbnail_view(model: ThumbnailModel) -> QListView:
    """Create a list view of thumbnails."""
    view = QListView()
    view.setModel(model)
    view.setViewMode(QListView.ViewMode.IconMode)
    view.setResizeMode(QListView.ResizeMode.Adjust)
    view.setMovement(QListView.Movement.Static)
    view.setUniformItemSizes(True)
    view.setIconSize(QSize(SIDE, SIDE))
    view.setGridSize(cell_size())
    view.setTextElideMode(Qt.TextElideMode.ElideMiddle)
    view.setAccessibleName("Images")
    return view
