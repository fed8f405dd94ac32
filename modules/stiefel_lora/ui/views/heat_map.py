"""The live heat map: effective rank of every block over time."""

from __future__ import annotations

import numpy as np
import pyqtgraph as pg
from PySide6.QtCore import QPointF, QRectF
from PySide6.QtWidgets import QLabel, QVBoxLayout, QWidget

from ..controllers.rank_table import RankTable
from .curves import style_plot

__all__ = ["HeatMap"]

_HINT = (
    "Effective rank / rank: dark 0, bright 1. Rows are blocks, columns measurements; "
    "point at one."
)
_EMPTY = (
    "The heat map fills while a training runs: a column each time the ranks are "
    "measured."
)


class HeatMap(QWidget):
    """A picture with a column a measurement; pointing at it tells the numbers."""

    def __init__(self) -> None:
        super().__init__()
        self.plot = pg.PlotWidget()
        self.plot.setMinimumHeight(180)
        self.plot.setMouseEnabled(x=False, y=False)
        self.plot.setMenuEnabled(False)
        self.plot.hideButtons()
        self.plot.invertY(True)
        self.image = pg.ImageItem(axisOrder="col-major")
        self.image.setLookupTable(pg.colormap.get("viridis").getLookupTable(nPts=256))
        self.plot.addItem(self.image)
        self.label = QLabel(_EMPTY)
        self.label.setWordWrap(True)
        self.label.setProperty("tone", "quiet")
        self._table = RankTable()
        self._shown = (-1, -1)
        column = QVBoxLayout(self)
        column.setContentsMargins(0, 0, 0, 0)
        column.addWidget(self.plot, 1)
        column.addWidget(self.label)
        self.plot.scene().sigMouseMoved.connect(self._hover)
        self._show_axes(False)
        self.restyle()

    def show_table(self, table: RankTable) -> None:
        """Draw ``table`` if it has changed."""
        key = (len(table.steps), table.steps[-1] if table.steps else -1)
        if table is self._table and key == self._shown:
            return
        fresh = table is not self._table or self._shown[0] <= 0
        self._table, self._shown = table, key
        if not table.steps:
            self.image.clear()
            self._show_axes(False)
            self.label.setText(_EMPTY)
            return
        self.image.setImage(table.shares, autoLevels=False, levels=(0, 255))
        columns, rows = table.shares.shape
        self.image.setRect(QRectF(0, 0, columns, rows))
        self.plot.setRange(xRange=(0, columns), yRange=(0, rows), padding=0)
        self._name_steps()
        if fresh:
            self._show_axes(True)
            self.label.setText(_HINT)
            self._name_sections()

    def _show_axes(self, shown: bool) -> None:
        for side in ("left", "bottom"):
            self.plot.showAxis(side, shown)

    def restyle(self) -> None:
        """Take up the colours of the present theme."""
        self.plot.plotItem.setTitle("Effective rank of every block", size="9pt")
        style_plot(self.plot)

    def describe(self, column: int, row: int) -> None:
        """Tell the numbers of one block at one measurement."""
        self.label.setText(self._table.describe(column, row))

    def _hover(self, place: QPointF) -> None:
        if not self._table.steps:
            return
        point = self.plot.plotItem.vb.mapSceneToView(place)
        column, row = int(np.floor(point.x())), int(np.floor(point.y()))
        columns, rows = self._table.shares.shape
        if 0 <= column < columns and 0 <= row < rows:
            self.describe(column, row)
        else:
            self.label.setText(_HINT)

    def _name_steps(self) -> None:
        steps = self._table.steps
        at = np.unique(np.linspace(0, len(steps) - 1, 6).round().astype(int))
        ticks = [(float(i) + 0.5, str(steps[i])) for i in at]
        self.plot.getAxis("bottom").setTicks([ticks])

    def _name_sections(self) -> None:
        """Name sections at their first row, where there is room for the words."""
        rows = len(self._table.blocks)
        ticks, free = [], -1.0
        for row, name in self._table.sections():
            if row >= free:
                ticks.append((float(row), name))
                free = row + rows / 16
        self.plot.getAxis("left").setTicks([ticks])
