"""Thumbnails of images, which are loaded in a thread when they become visible."""

from __future__ import annotations

from collections import OrderedDict
from pathlib import Path
from typing import Any

from PIL import Image, ImageOps
from PySide6.QtCore import (
    QAbstractListModel,
    QModelIndex,
    QObject,
    QPersistentModelIndex,
    QRunnable,
    QSize,
    Qt,
    QThreadPool,
    Signal,
)
from PySide6.QtGui import QColor, QImage, QPixmap
from PySide6.QtWidgets import QListView

__all__ = ["SIDE", "ThumbnailModel", "thumbnail_view"]

SIDE = 112
_KEPT = 600
Index = QModelIndex | QPersistentModelIndex


class ThumbnailModel(QAbstractListModel):
    """List model of image files. Thumbnails are loaded when first shown."""

    def __init__(self, parent: QObject) -> None:
        super().__init__(parent)
        self.paths: list[Path] = []
        self.marks: dict[Path, str] = {}
        """Problems by image. They are shown as tooltips, and the names are red."""

        self._ready: OrderedDict[Path, QPixmap] = OrderedDict()
        self._wanted: set[Path] = set()
        self._pool = QThreadPool(self)
        self._pool.setMaxThreadCount(1)
        self._mail = _Mail()
        self._mail.done.connect(self._arrived)
        self._blank = QPixmap(SIDE, SIDE)
        self._blank.fill(QColor(0, 0, 0, 0))

    def show_paths(self, paths: list[Path]) -> None:
        """Show the given images."""
        self._pool.clear()
        self.beginResetModel()
        self.paths = paths
        self._wanted.clear()
        self.endResetModel()

    def mark(self, marks: dict[Path, str]) -> None:
        """Set the problems by image."""
        self.marks = marks
        if self.paths:
            last = self.index(len(self.paths) - 1)
            self.dataChanged.emit(self.index(0), last)

    def unmark(self, path: Path) -> None:
        """Clear the problem of an image."""
        if self.marks.pop(path, None):
            self.mark(self.marks)

    def rowCount(self, parent: Index = QModelIndex()) -> int:  # noqa: B008
        """Return the number of images."""
        return 0 if parent.isValid() else len(self.paths)

    def data(self, index: Index, role: int = Qt.ItemDataRole.DisplayRole) -> Any:
        """Return the data of an item for the view."""
        path = self.paths[index.row()]
        if role == Qt.ItemDataRole.DisplayRole:
            return path.name
        if role == Qt.ItemDataRole.ToolTipRole:
            return f"{path}\n{self.marks[path]}" if path in self.marks else str(path)
        if role == Qt.ItemDataRole.ForegroundRole and path in self.marks:
            return QColor("#d0454c")
        if role == Qt.ItemDataRole.DecorationRole:
            return self._thumbnail(path)
        return None

    def wait(self) -> None:
        """Stop the thread."""
        self._pool.clear()
        self._pool.waitForDone()

    def _thumbnail(self, path: Path) -> QPixmap:
        found = self._ready.get(path)
        if found is not None:
            self._ready.move_to_end(path)
            return found
        if path not in self._wanted:
            self._wanted.add(path)
            self._pool.start(_Maker(path, self._mail))
        return self._blank

    def _arrived(self, path: Path, image: QImage) -> None:
        self._wanted.discard(path)
        self._ready[path] = self._blank if image.isNull() else QPixmap(image)
        while len(self._ready) > _KEPT:
            self._ready.popitem(last=False)
        if path in self.paths:
            index = self.index(self.paths.index(path))
            self.dataChanged.emit(index, index)


class _Mail(QObject):
    """Signals of the loader thread."""

    done = Signal(object, QImage)


class _Maker(QRunnable):
    def __init__(self, path: Path, mail: _Mail) -> None:
        super().__init__()
        self._path, self._mail = path, mail

    def run(self) -> None:
        self._mail.done.emit(self._path, _make(self._path))


def _make(path: Path) -> QImage:
    """Load a thumbnail. The image is empty if the file is damaged."""
    try:
        with Image.open(path) as opened:
            opened.draft("RGB", (2 * SIDE, 2 * SIDE))
            image = ImageOps.exif_transpose(opened).convert("RGBA")
    # Decoders raise many kinds of exceptions for damaged files.
    except Exception:
        return QImage()
    scale = min(SIDE / image.width, SIDE / image.height)
    size = (max(1, round(image.width * scale)), max(1, round(image.height * scale)))
    image = image.resize(size, Image.Resampling.BILINEAR)
    data = image.tobytes()
    width, height = image.size
    kind = QImage.Format.Format_RGBA8888
    return QImage(data, width, height, 4 * width, kind).copy()


def thumbnail_view(model: ThumbnailModel) -> QListView:
    """Create a list view of thumbnails."""
    view = QListView()
    view.setModel(model)
    view.setViewMode(QListView.ViewMode.IconMode)
    view.setResizeMode(QListView.ResizeMode.Adjust)
    view.setMovement(QListView.Movement.Static)
    view.setUniformItemSizes(True)
    view.setIconSize(QSize(SIDE, SIDE))
    view.setGridSize(QSize(SIDE + 18, SIDE + 30))
    view.setTextElideMode(Qt.TextElideMode.ElideMiddle)
    view.setAccessibleName("Images")
    return view
