"""Plot of a matrix as an image, with a line of text below it."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import numpy as np
import pyqtgraph as pg
from PySide6.QtCore import QPointF, QRectF
from PySide6.QtWidgets import QLabel, QVBoxLayout, QWidget

from .curves import style_plot

__all__ = ["ImagePlot"]


class ImagePlot(QWidget):
    """Plot of a matrix as an image, with a text about the cell below the mouse.

    Args:
        title: title of the plot.
        colormap: pyqtgraph colormap name.
        text: initial text below the plot.
    """

    def __init__(self, title: str, colormap: str, text: str) -> None:
        super().__init__()
        self._title = title
        self.plot = pg.PlotWidget()
        self.plot.setMinimumHeight(180)
        self.plot.setMouseEnabled(x=False, y=False)
        self.plot.setMenuEnabled(False)
        self.plot.hideButtons()
        self.plot.invertY(True)
        self.image = pg.ImageItem(axisOrder="col-major")
        self.image.setLookupTable(pg.colormap.get(colormap).getLookupTable(nPts=256))
        self.plot.addItem(self.image)
        self.label = QLabel(text)
        self.label.setWordWrap(True)
        self.label.setProperty("tone", "quiet")
        column = QVBoxLayout(self)
        column.setContentsMargins(0, 0, 0, 0)
        column.addWidget(self.plot, 1)
        column.addWidget(self.label)
        self.plot.scene().sigMouseMoved.connect(self._hover)
        self.restyle()

    def restyle(self) -> None:
        """Apply the colors of the current theme."""
        self.plot.plotItem.setTitle(self._title, size="9pt")
        style_plot(self.plot)

    def hovered(self, column: int, row: int) -> None:
        """Return the text for the cell below the mouse, if there is one."""
        raise NotImplementedError

    def draw(self, matrix: np.ndarray, top: float) -> None:
        """Plot a matrix ``(columns, rows)`` with values from 0 to ``top``."""
        self.image.setImage(matrix, autoLevels=False, levels=(0, top))
        columns, rows = matrix.shape
        self.image.setRect(QRectF(0, 0, columns, rows))
        self.plot.setRange(xRange=(0, columns), yRange=(0, rows), padding=0)

    def show_axes(self, shown: bool) -> None:
        """Show or hide both axes."""
        for side in ("left", "bottom"):
            self.plot.showAxis(side, shown)

    def name_columns(self, names: Sequence[str], most: int) -> None:
        """Set the labels of the columns. At most ``most`` labels are shown."""
        at = np.unique(np.linspace(0, len(names) - 1, most).round().astype(int))
        ticks = [(float(i) + 0.5, names[i]) for i in at]
        self.plot.getAxis("bottom").setTicks([ticks])

    def name_sections(self, sections: Iterable[tuple[int, str]], apart: float) -> None:
        """Set the row labels: the name of each section at its first row.

        Labels that are closer than ``apart`` rows to the previous one are omitted.
        """
        ticks, free = [], -1.0
        for row, name in sections:
            if row >= free:
                ticks.append((float(row), name))
                free = row + apart
        self.plot.getAxis("left").setTicks([ticks])

    def _hover(self, place: QPointF) -> None:
        point = self.plot.plotItem.vb.mapSceneToView(place)
        self.hovered(int(np.floor(point.x())), int(np.floor(point.y())))
