"""Plots of loss, effective rank and learning rate during training."""

from __future__ import annotations

import pyqtgraph as pg
from PySide6.QtCore import Qt
from PySide6.QtGui import QPalette
from PySide6.QtWidgets import QApplication, QVBoxLayout, QWidget

from ...metrics.tags import (
    AVERAGE_LOSS,
    LOSS_WINDOW,
    LOWEST_RANK,
    MEAN_RANK,
    bin_of_tag,
)
from ..controllers.run_record import RunRecord
from .basics import Elided
from .theme import is_dark

__all__ = ["MARGINS", "Curves", "style_axis", "style_plot"]

# pyqtgraph draws thick lines in segments through memory that Qt's bindings may mistake
# for an earlier object; the curve is then missing.
pg.setConfigOption("segmentedLineMode", "off")

# Tag, name in the legend, color in the light and dark theme.
_LOSS = (
    ("loss/train", "loss", "#9db7d6", "#4f6a8c"),
    (AVERAGE_LOSS, f"average of {LOSS_WINDOW} steps", "#1f5fae", "#7fb4f0"),
    ("validation/loss", "validation loss", "#c2410c", "#ff9e5e"),
)
_RANK = (
    (MEAN_RANK, "mean", "#1f5fae", "#7fb4f0"),
    (LOWEST_RANK, "lowest", "#c2410c", "#ff9e5e"),
)
# Equal learning rates are drawn over each other, so later ones are also dashed.
_RATES = (
    ("#1f5fae", "#7fb4f0", Qt.PenStyle.SolidLine),
    ("#c2410c", "#ff9e5e", Qt.PenStyle.DashLine),
    ("#2e7d32", "#7bd389", Qt.PenStyle.DotLine),
    ("#7b3fa0", "#cf9df0", Qt.PenStyle.DashDotLine),
    ("#8a6d00", "#e3c34d", Qt.PenStyle.DashDotDotLine),
    ("#00727d", "#5ccfdb", Qt.PenStyle.DashLine),
)
_CAPTIONS = {
    "Loss": "If the validation loss rises, the LoRA overfits.",
    "Effective rank": "Directions in use by the blocks, at most the rank.",
    "Learning rate": "Size of the updates, set by the scheduler.",
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
        self.captions: dict[str, Elided] = {}
        """Lines below the plots, by the name of the plot."""

        column = QVBoxLayout(self)
        column.setContentsMargins(0, 0, 0, 0)
        column.setSpacing(2)
        for name, plot, stretch in (
            ("Loss", self.loss, 5),
            ("Effective rank", self.rank, 3),
            ("Learning rate", self.rate, 3),
        ):
            column.addWidget(plot, stretch)
            self.captions[name] = _caption(_CAPTIONS[name])
            column.addWidget(self.captions[name])
        self._lines: dict[str, pg.PlotDataItem] = {}

    def clear(self) -> None:
        """Clear the curves of the previous run."""
        for plot in (self.loss, self.rank, self.rate):
            plot.clear()
        self._lines.clear()

    def show_record(self, record: RunRecord) -> None:
        """Plot the values of a run."""
        for plot in (self.loss, self.rank, self.rate):
            plot.setXRange(0, max(1, record.steps, record.step), padding=0.03)
        self.captions["Loss"].setText(_loss_caption(record))
        if record.ranks.rank:
            self.rank.setYRange(0, record.ranks.rank)
        for plot, curves in ((self.loss, _LOSS), (self.rank, _RANK)):
            for tag, name, light, dark in curves:
                self._draw(plot, record, tag, name, (light, dark))
        rates = [tag for tag in record.series if tag.startswith("lr/")]
        for number, tag in enumerate(rates):
            light, dark, dashes = _RATES[number % len(_RATES)]
            self._draw(self.rate, record, tag, tag[3:], (light, dark), dashes)

    def restyle(self) -> None:
        """Apply the colors of the current theme and redraw the curves."""
        self.clear()
        for plot in (self.loss, self.rank, self.rate):
            style_plot(plot)

    def _draw(
        self,
        plot: pg.PlotWidget,
        record: RunRecord,
        tag: str,
        name: str,
        colors: tuple[str, str],
        dashes: Qt.PenStyle = Qt.PenStyle.SolidLine,
    ) -> None:
        series = record.series.get(tag)
        if series is None:
            return
        line = self._lines.get(tag)
        if line is None:
            width = 1 if tag == "loss/train" else 2
            pen = pg.mkPen(colors[is_dark()], width=width, style=dashes)
            few = tag == "validation/loss"
            line = plot.plot(name=name, pen=pen, symbol="o" if few else None)
            if few:
                line.setSymbolSize(5)
                line.setSymbolBrush(colors[is_dark()])
                line.setSymbolPen(None)
            self._lines[tag] = line
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


def _loss_caption(record: RunRecord) -> str:
    """Return the usual line, or the last validation loss of each range of timesteps."""
    parts = [
        f"{found} {series.values[-1]:.4g}"
        for tag, series in record.series.items()
        if (found := bin_of_tag(tag)) and len(series.values)
    ]
    if not parts:
        return _CAPTIONS["Loss"]
    return f"Validation loss by timesteps (0 is no noise): {', '.join(parts)}"


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
