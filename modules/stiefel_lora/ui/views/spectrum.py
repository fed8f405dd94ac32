"""The spectrum of a LoRA file: a row for each layer, a column for each value."""

from __future__ import annotations

import numpy as np
import pyqtgraph as pg
from PySide6.QtCore import QPointF, QRectF
from PySide6.QtWidgets import QLabel, QVBoxLayout, QWidget

from ..controllers.lora_files import LoraEntry
from .curves import style_plot

__all__ = ["Spectrum"]

_EMPTY = "Add a LoRA file to see its singular values, layer by layer."
_HINT = (
    "Singular values of each layer, largest first: bright is the largest of the file, "
    "black 1/1000 of it. Point at one for its number."
)


class Spectrum(QWidget):
    """Heat map of one file."""

    def __init__(self) -> None:
        super().__init__()
        self.plot = pg.PlotWidget()
        self.plot.setMinimumHeight(180)
        self.plot.setMouseEnabled(x=False, y=False)
        self.plot.setMenuEnabled(False)
        self.plot.hideButtons()
        self.plot.invertY(True)
        self.image = pg.ImageItem(axisOrder="col-major")
        self.image.setLookupTable(pg.colormap.get("inferno").getLookupTable(nPts=256))
        self.plot.addItem(self.image)
        self.label = QLabel(_EMPTY)
        self.label.setWordWrap(True)
        self.label.setProperty("tone", "quiet")
        self._entry: LoraEntry | None = None
        column = QVBoxLayout(self)
        column.setContentsMargins(0, 0, 0, 0)
        column.addWidget(self.plot, 1)
        column.addWidget(self.label)
        self.plot.scene().sigMouseMoved.connect(self._hover)
        self.show_entry(None)
        self.restyle()

    def show_entry(self, entry: LoraEntry | None) -> None:
        """Draw a file, or nothing."""
        self._entry = entry
        for side in ("left", "bottom"):
            self.plot.showAxis(side, entry is not None)
        self.label.setText(_EMPTY if entry is None else _HINT)
        if entry is None:
            self.image.clear()
            return
        self.image.setImage(entry.levels, autoLevels=False, levels=(0, 1))
        columns, rows = entry.levels.shape
        self.image.setRect(QRectF(0, 0, columns, rows))
        self.plot.setRange(xRange=(0, columns), yRange=(0, rows), padding=0)
        at = np.unique(np.linspace(0, columns - 1, 9).round().astype(int))
        ticks = [(float(i) + 0.5, str(i + 1)) for i in at]
        self.plot.getAxis("bottom").setTicks([ticks])
        names, free = [], -1.0
        for row, name in entry.sections:
            if row >= free:
                names.append((float(row), name))
                free = row + rows / 24
        self.plot.getAxis("left").setTicks([names])

    def restyle(self) -> None:
        """Take up the colors of the present theme."""
        self.plot.plotItem.setTitle("Spectrum of each layer", size="9pt")
        style_plot(self.plot)

    def _hover(self, place: QPointF) -> None:
        if self._entry is None:
            return
        point = self.plot.plotItem.vb.mapSceneToView(place)
        column, row = int(np.floor(point.x())), int(np.floor(point.y()))
        self.label.setText(self._entry.describe(column, row) or _HINT)
