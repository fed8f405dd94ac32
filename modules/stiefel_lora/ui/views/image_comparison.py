"""Two images over each other, with a divider that can be moved."""

from __future__ import annotations

import functools
from pathlib import Path

from PySide6.QtCore import QRect, QSize, Qt, Signal
from PySide6.QtGui import QImage, QMouseEvent, QPainter, QPaintEvent, QPalette, QPen
from PySide6.QtWidgets import QHBoxLayout, QLabel, QSlider, QVBoxLayout, QWidget

from .worker_thread import Background

__all__ = ["Comparison"]

Titled = tuple[Path, str]
"""Image file and its title."""

_RANGE = 1000


class Comparison(QWidget):
    """Image before and after training: left and right of a divider."""

    def __init__(self) -> None:
        super().__init__()
        self.pair = _Pair()
        self.slider = QSlider(Qt.Orientation.Horizontal)
        self.slider.setRange(0, _RANGE)
        self.slider.setValue(_RANGE // 2)
        self.slider.setAccessibleName("Divider between before and after")
        self.slider.setToolTip("Move to the left to see more of the later image")
        self.slider.valueChanged.connect(self.pair.divide)
        self.pair.moved.connect(self.slider.setValue)
        self.before, self.after = QLabel(), QLabel()
        self.after.setAlignment(Qt.AlignmentFlag.AlignRight)
        titles = QHBoxLayout()
        for label in (self.before, self.after):
            label.setProperty("tone", "quiet")
            titles.addWidget(label)
        column = QVBoxLayout(self)
        column.setContentsMargins(4, 0, 0, 0)
        column.setSpacing(2)
        column.addLayout(titles)
        column.addWidget(self.pair, 1)
        column.addWidget(self.slider)
        self.setMinimumWidth(150)
        self._shown: tuple[Titled, Titled] | None = None
        self._thread = Background(self)
        self._thread.done.connect(self._arrived)

    def compare(self, before: Titled, after: Titled) -> None:
        """Show two images, which are loaded in a thread."""
        if (before, after) == self._shown:
            return
        self._shown = before, after
        self.before.setText(before[1])
        self.after.setText(after[1])
        paths = before[0], after[0]
        self._thread.start_instead(paths, functools.partial(_load, paths))

    def clear(self) -> None:
        """Show no images."""
        self._shown = None
        self._thread.clear()
        self.before.clear()
        self.after.clear()
        self.pair.show_images(QImage(), QImage())

    def finish(self) -> None:
        """Stop the thread."""
        self._thread.finish()

    def _arrived(self, paths: tuple[Path, Path], images: list[QImage]) -> None:
        if self._shown and paths == (self._shown[0][0], self._shown[1][0]):
            self.pair.show_images(*images)


class _Pair(QWidget):
    """Drawing of both images. ``moved`` emits the place of the divider."""

    moved = Signal(int)

    def __init__(self) -> None:
        super().__init__()
        self.images = QImage(), QImage()
        self.place = _RANGE // 2
        self.setMinimumSize(QSize(140, 40))
        self.setCursor(Qt.CursorShape.SplitHCursor)

    def show_images(self, before: QImage, after: QImage) -> None:
        """Draw two images, of which the second one may have another size."""
        self.images = before, after
        self.update()

    def divide(self, place: int) -> None:
        """Move the divider: 0 shows only the second image, 1000 only the first."""
        self.place = place
        self.update()

    def mousePressEvent(self, event: QMouseEvent) -> None:
        """Move the divider to the mouse."""
        self._drag(event)

    def mouseMoveEvent(self, event: QMouseEvent) -> None:
        """Move the divider with the mouse."""
        self._drag(event)

    def paintEvent(self, _event: QPaintEvent) -> None:
        """Draw both images and the divider."""
        before, after = self.images
        if before.isNull() and after.isNull():
            return
        frame = self._frame()
        painter = QPainter(self)
        painter.setRenderHint(QPainter.RenderHint.SmoothPixmapTransform)
        split = frame.left() + frame.width() * self.place // _RANGE
        left, right = QRect(frame), QRect(frame)
        left.setRight(split - 1)
        right.setLeft(split)
        for image, part in ((before, left), (after, right)):
            painter.setClipRect(part)
            painter.drawImage(frame, image)
        painter.setClipping(False)
        painter.setPen(QPen(self.palette().color(QPalette.ColorRole.Highlight), 2))
        painter.drawLine(split, frame.top(), split, frame.bottom())

    def _frame(self) -> QRect:
        """Return the largest rectangle in the widget with the shape of the images."""
        first = next(image for image in self.images if not image.isNull())
        size = first.size().scaled(self.size(), Qt.AspectRatioMode.KeepAspectRatio)
        frame = QRect(0, 0, size.width(), size.height())
        frame.moveCenter(self.rect().center())
        return frame

    def _drag(self, event: QMouseEvent) -> None:
        if all(image.isNull() for image in self.images):
            return
        frame = self._frame()
        place = (event.position().x() - frame.left()) / max(1, frame.width())
        self.moved.emit(round(min(max(place, 0.0), 1.0) * _RANGE))


def _load(paths: tuple[Path, Path]) -> list[QImage]:
    """Load images. A damaged file gives an empty image."""
    return [QImage(str(path)) for path in paths]
