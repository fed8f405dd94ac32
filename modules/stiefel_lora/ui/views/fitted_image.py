"""Label with an image, or a text in its place, that fits into the available room."""

from __future__ import annotations

from PySide6.QtCore import Qt
from PySide6.QtGui import QImage, QPixmap, QResizeEvent
from PySide6.QtWidgets import QLabel

__all__ = ["FittedImage"]

_LEAST = 60


class FittedImage(QLabel):
    """Image of at most ``side`` pixels, which becomes smaller if the label is low.

    Args:
        side: width of the label and maximum height in pixels.
    """

    def __init__(self, side: int) -> None:
        super().__init__()
        self.setFixedWidth(side)
        self.setMinimumHeight(_LEAST)
        self.setMaximumHeight(side)
        self.setAlignment(Qt.AlignmentFlag.AlignCenter)
        self.setWordWrap(True)
        self._image = QPixmap()

    def show_image(self, image: QImage) -> None:
        """Show an image instead of a text."""
        self._image = QPixmap(image)
        self._fit()

    def show_text(self, text: str) -> None:
        """Show a text instead of an image."""
        self._image = QPixmap()
        self.setText(text)

    def resizeEvent(self, event: QResizeEvent) -> None:
        """Scale the image to the new height."""
        super().resizeEvent(event)
        self._fit()

    def _fit(self) -> None:
        if self._image.isNull():
            return
        image = self._image
        if image.height() > self.height():
            image = image.scaledToHeight(
                self.height(), Qt.TransformationMode.SmoothTransformation
            )
        self.setPixmap(image)
