"""Run tab: commands, progress, curves, heat map, samples and log."""

from __future__ import annotations

from typing import TYPE_CHECKING

from PySide6.QtCore import Qt, Signal
from PySide6.QtWidgets import (
    QHBoxLayout,
    QLabel,
    QPlainTextEdit,
    QProgressBar,
    QPushButton,
    QSplitter,
    QVBoxLayout,
    QWidget,
)

from ...jobs import Job
from ..controllers.run_orders import (
    NO_RUN,
    RUN_ORDERS,
    Order,
    allowed_orders,
    complaint,
)
from ..controllers.run_record import RunRecord
from ..controllers.status import figures, headline
from .basics import Note, scrolled
from .gallery import Gallery
from .tabs import Tabs
from .theme import ERROR

if TYPE_CHECKING:
    from .plots import Plots

__all__ = ["RunTab"]

_BUTTONS = (
    *RUN_ORDERS,
    Order("board", "TensorBoard", "Open TensorBoard for this run in the browser"),
    Order(
        "folder",
        "Open folder",
        "Open the run folder. LoRA files are in the subfolder lora",
    ),
)


class RunTab(QWidget):
    """Tab that shows a run. ``ordered`` emits the name of a command."""

    ordered = Signal(str)

    def __init__(self) -> None:
        super().__init__()
        self.buttons: dict[str, QPushButton] = {}
        self.title = QLabel(NO_RUN)
        self.title.setWordWrap(True)
        self.title.setTextFormat(Qt.TextFormat.PlainText)
        self.bar = QProgressBar()
        self.bar.setFormat("%p %")
        self.figures = QLabel()
        self.figures.setWordWrap(True)
        self.note = Note()
        self.plots: Plots | None = None
        self.gallery = Gallery()
        self.log = QPlainTextEdit()
        self.log.setReadOnly(True)
        self.log.setMaximumBlockCount(5000)
        self.log.setAccessibleName("Log")
        self._arrange()

    def show_run(self, record: RunRecord | None, job: Job | None) -> None:
        """Show the values of a run."""
        self._allow(record, job)
        if record is None:
            self.title.setText(NO_RUN)
            self.draw()
            return
        self.title.setText(f"{record.folder.root.name}: {headline(record, job)}")
        self.figures.setText(figures(record, job))
        self.bar.setRange(0, max(1, record.steps))
        self.bar.setValue(record.step)
        self.note.say(complaint(record, job), ERROR)
        plots = self.draw()
        plots.curves.show_record(record)
        plots.heat_map.show_table(record.ranks)
        self.gallery.show_record(record)

    def draw(self) -> Plots:
        """Create the plots on first use, because importing them is slow."""
        if self.plots is None:
            from .plots import Plots

            self.plots = Plots()
            self._both.insertWidget(0, scrolled(self.plots.curves))
            self._right.insertWidget(0, self.plots.heat_map)
            self._both.setSizes([480, 700])
            self._right.setSizes([330, 270])
        return self.plots

    def clear(self) -> None:
        """Clear the view for another run."""
        if self.plots is not None:
            self.plots.curves.clear()
        self.log.clear()

    def add_log(self, lines: list[str]) -> None:
        """Append lines to the log without changing the scroll position."""
        if lines:
            self.log.appendPlainText("\n".join(lines))

    def restyle(self) -> None:
        """Apply the colors of the current theme."""
        if self.plots is not None:
            self.plots.curves.restyle()
            self.plots.heat_map.restyle()

    def _allow(self, record: RunRecord | None, job: Job | None) -> None:
        """Enable the buttons that are available in the current state."""
        folder = record.folder if record is not None else None
        allowed = {
            **allowed_orders(record, job),
            "board": folder is not None and folder.tensorboard.is_dir(),
            "folder": folder is not None and folder.root.is_dir(),
        }
        for name, on in allowed.items():
            self.buttons[name].setEnabled(on)

    def _arrange(self) -> None:
        orders = QHBoxLayout()
        for name, text, hint in _BUTTONS:
            button = QPushButton(text)
            button.setToolTip(hint)
            button.clicked.connect(lambda _=False, order=name: self.ordered.emit(order))
            self.buttons[name] = button
            orders.addWidget(button)
        orders.addStretch(1)
        below = Tabs()
        below.addTab(self.gallery, "Samples")
        below.addTab(self.log, "Log")
        self.below = below
        self._right = QSplitter(Qt.Orientation.Vertical)
        self._right.addWidget(below)
        self._both = QSplitter(Qt.Orientation.Horizontal)
        self._both.addWidget(self._right)
        column = QVBoxLayout(self)
        column.addLayout(orders)
        state = QHBoxLayout()
        state.addWidget(self.title, 1)
        state.addWidget(self.bar, 1)
        column.addLayout(state)
        for widget in (self.figures, self.note):
            column.addWidget(widget)
        column.addWidget(self._both, 1)
