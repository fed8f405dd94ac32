"""Plot of a matrix as an image, with a color bar and a line of text below it."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import numpy as np
import pyqtgraph as pg
from PySide6.QtCore import QPointF, QRectF
from PySide6.QtWidgets import QLabel, QVBoxLayout, QWidget

from ..controllers.column_labels import column_labels
from .curves import MARGINS, style_axis, style_plot

__all__ = ["ImagePlot"]

# Pixels for the ticks and the label of the color bar.
_BAR_WIDTH = 66


class ImagePlot(QWidget):
    """Plot of a matrix as an image, with a text about the cell below the mouse.

    Args:
        title: title of the plot.
        axes: labels of the rows and of the columns.
        colormap: pyqtgraph colormap name.
        bar: label of the color bar, and its ticks from 0 to 1.
        text: initial text below the plot.
    """

    def __init__(
        self,
        title: str,
        axes: tuple[str, str],
        colormap: str,
        bar: tuple[str, Sequence[tuple[float, str]]],
        text: str,
    ) -> None:
        super().__init__()
        self._title = title
        self._sections: list[tuple[int, str]] = []
        self._rows = 0
        self.plot = pg.PlotWidget()
        self.plot.setMinimumHeight(140)
        self.plot.plotItem.layout.setContentsMargins(*MARGINS)
        self.plot.setMouseEnabled(x=False, y=False)
        self.plot.setMenuEnabled(False)
        self.plot.hideButtons()
        self.plot.invertY(True)
        for side, label in zip(("left", "bottom"), axes, strict=True):
            self.plot.setLabel(side, label)
        colors = pg.colormap.get(colormap)
        self.image = pg.ImageItem(axisOrder="col-major")
        self.image.setLookupTable(colors.getLookupTable(nPts=256))
        self.plot.addItem(self.image)
        # The bar is not linked to the image, whose levels depend on the matrix.
        self.bar = pg.ColorBarItem((0, 1), 12, colors, interactive=False)
        self.bar.axis.setLabel(bar[0])
        self.bar.axis.setWidth(_BAR_WIDTH)
        self.bar.axis.setTicks([list(bar[1])])
        self.plot.plotItem.layout.addItem(self.bar, 2, 5)
        self.bar.hide()
        self.label = QLabel(text)
        self.label.setWordWrap(True)
        self.label.setProperty("tone", "quiet")
        column = QVBoxLayout(self)
        column.setContentsMargins(0, 0, 0, 0)
        column.addWidget(self.plot, 1)
        column.addWidget(self.label)
        self.plot.plotItem.vb.sigResized.connect(self._place_sections)
        self.plot.scene().sigMouseMoved.connect(self._hover)
        self.restyle()

    def restyle(self) -> None:
        """Apply the colors of the current theme."""
        self.plot.plotItem.setTitle(self._title, size="9pt")
        style_plot(self.plot)
        style_axis(self.bar.axis)

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
        """Show or hide the axes and the color bar."""
        for side in ("left", "bottom"):
            self.plot.showAxis(side, shown)
        self.bar.setVisible(shown)

    def name_columns(self, names: Sequence[str], most: int) -> None:
        """Set the labels of the columns. At most ``most`` labels are shown."""
        ticks = [(i + 0.5, name) for i, name in column_labels(names, most)]
        self.plot.getAxis("bottom").setTicks([ticks])

    def name_sections(self, sections: Iterable[tuple[int, str]], rows: int) -> None:
        """Set the row labels: the name of each section at its first row.

        Labels for which there is too little room below the previous one are omitted.

        Args:
            sections: first row and name of each section.
            rows: number of all rows.
        """
        self._sections, self._rows = list(sections), rows
        self._place_sections()

    def _place_sections(self) -> None:
        height = self.plot.plotItem.vb.height()
        apart = self._rows * self.fontMetrics().height() / max(height, 1)
        ticks: list[tuple[float, str]] = []
        free = -1.0
        for row, name in self._sections:
            if row >= free:
                ticks.append((float(row), name))
                free = row + apart
        self.plot.getAxis("left").setTicks([ticks])

    def _hover(self, place: QPointF) -> None:
        point = self.plot.plotItem.vb.mapSceneToView(place)
        self.hovered(int(np.floor(point.x())), int(np.floor(point.y())))
