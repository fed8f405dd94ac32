"""Plots of loss, effective rank and learning rate during training."""

from __future__ import annotations

import pyqtgraph as pg
from PySide6.QtCore import Qt
from PySide6.QtGui import QPalette
from PySide6.QtWidgets import QApplication, QVBoxLayout, QWidget

from ..controllers.curve_list import CAPTIONS, Curve, caption_of_plot, curves_of
from ..controllers.run_record import RunRecord
from .basics import Elided
from .theme import is_dark

__all__ = ["MARGINS", "Curves", "style_axis", "style_plot"]

# pyqtgraph draws thick lines in segments through memory that Qt's bindings may mistake
# for an earlier object; the curve is then missing.
pg.setConfigOption("segmentedLineMode", "off")

_STYLES = {
    "solid": Qt.PenStyle.SolidLine,
    "dashed": Qt.PenStyle.DashLine,
    "dotted": Qt.PenStyle.DotLine,
    "dash-dot": Qt.PenStyle.DashDotLine,
    "dash-dot-dot": Qt.PenStyle.DashDotDotLine,
}
# Opacity of legends, of 255: labels can be read on top of curves.
_LEGEND_ALPHA = 190
# Pixels around a plot. pyqtgraph draws the label of the lower axis in the margin.
MARGINS = (1, 4, 10, 7)
# Pixels for the labels of the left axes, so that the steps are aligned.
_LEFT = 62


class Curves(QWidget):
    """Plots of loss, effective rank and learning rate over steps."""

    def __init__(self) -> None:
        super().__init__()
        self.loss = _plot("Loss")
        self.rank = _plot("Effective rank", legend=(-8, -8))
        self.rate = _plot("Learning rate")
        self.plots = {
            "Loss": self.loss,
            "Effective rank": self.rank,
            "Learning rate": self.rate,
        }
        self.captions: dict[str, Elided] = {}
        """Lines below the plots, by the name of the plot."""

        column = QVBoxLayout(self)
        column.setContentsMargins(0, 0, 0, 0)
        column.setSpacing(2)
        for name, plot in self.plots.items():
            column.addWidget(plot, 5 if plot is self.loss else 3)
            self.captions[name] = _caption(CAPTIONS[name])
            column.addWidget(self.captions[name])
        self._lines: dict[str, pg.PlotDataItem] = {}

    def clear(self) -> None:
        """Clear the curves of the previous run."""
        for plot in self.plots.values():
            plot.clear()
        self._lines.clear()

    def show_record(self, record: RunRecord) -> None:
        """Plot the values of a run."""
        for plot in self.plots.values():
            plot.setXRange(0, max(1, record.steps, record.step), padding=0.03)
        self.captions["Loss"].setText(caption_of_plot("Loss", record))
        if record.ranks.rank:
            self.rank.setYRange(0, record.ranks.rank)
        for name, curves in curves_of(record).items():
            for curve in curves:
                self._draw(self.plots[name], record, curve)

    def restyle(self) -> None:
        """Apply the colors of the current theme and redraw the curves."""
        self.clear()
        for plot in self.plots.values():
            style_plot(plot)

    def _draw(self, plot: pg.PlotWidget, record: RunRecord, curve: Curve) -> None:
        series, line = record.series[curve.tag], self._lines.get(curve.tag)
        if line is None:
            color = curve.dark if is_dark() else curve.light
            pen = pg.mkPen(color, width=curve.width, style=_STYLES[curve.line])
            symbol = "o" if curve.points else None
            line = plot.plot(name=curve.name, pen=pen, symbol=symbol)
            if curve.points:
                line.setSymbolSize(5)
                line.setSymbolBrush(color)
                line.setSymbolPen(None)
            self._lines[curve.tag] = line
        line.setData(series.steps, series.values)


def _plot(title: str, legend: tuple[int, int] = (-8, 8)) -> pg.PlotWidget:
    plot = pg.PlotWidget()
    plot.setMinimumHeight(130)
    plot.setLabel("left", title)
    plot.setLabel("bottom", "Step")
    plot.getAxis("left").setWidth(_LEFT)
    plot.plotItem.layout.setContentsMargins(*MARGINS)
    # By default, the label of the last step is omitted if it begins inside of the plot
    # and ends in the margin.
    plot.getAxis("bottom").setStyle(hideOverlappingLabels=False)
    plot.plotItem.setDownsampling(auto=True, mode="peak")
    plot.plotItem.setClipToView(True)
    plot.plotItem.addLegend(offset=legend, labelTextSize="8pt")
    plot.plotItem.showGrid(x=False, y=True, alpha=0.2)
    # The wheel scrolls the page; dragging still zooms.
    plot.setMouseEnabled(x=False, y=False)
    plot.plotItem.hideButtons()
    plot.setMenuEnabled(False)
    style_plot(plot)
    return plot


def _caption(text: str) -> Elided:
    label = Elided()
    label.setText(text)
    label.setProperty("tone", "quiet")
    return label


def style_plot(plot: pg.PlotWidget) -> None:
    """Apply the colors of the current theme to a plot."""
    palette = QApplication.palette()
    text = palette.color(QPalette.ColorRole.WindowText)
    plot.setBackground(palette.color(QPalette.ColorRole.Base))
    item = plot.plotItem
    if item.titleLabel.text:
        item.titleLabel.setText(item.titleLabel.text, color=text.name())
    if item.legend is not None:
        item.legend.setLabelTextColor(text)
        ground = palette.color(QPalette.ColorRole.Base)
        ground.setAlpha(_LEGEND_ALPHA)
        item.legend.setBrush(pg.mkBrush(ground))
    for side in ("left", "bottom"):
        style_axis(item.getAxis(side))


def style_axis(axis: pg.AxisItem) -> None:
    """Apply the colors of the current theme to an axis and its label."""
    text = QApplication.palette().color(QPalette.ColorRole.WindowText)
    axis.setPen(pg.mkPen(text))
    axis.setTextPen(pg.mkPen(text))
    axis.enableAutoSIPrefix(False)
    if axis.labelText:
        axis.setLabel(axis.labelText, color=text.name(), **{"font-size": "8pt"})
