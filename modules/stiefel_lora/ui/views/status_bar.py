"""Status of the current training below all tabs."""

from __future__ import annotations

from PySide6.QtCore import Signal
from PySide6.QtWidgets import QHBoxLayout, QProgressBar, QToolButton, QWidget

from ...jobs import Job
from ..controllers.run_record import RunRecord
from ..controllers.status import IDLE, figures, headline
from .basics import Elided

__all__ = ["StatusBar"]


class StatusBar(QWidget):
    """Row with the name, state, progress and values of a training.

    ``wanted`` is emitted by the button that shows the training on the Run tab.
    """

    wanted = Signal()

    def __init__(self) -> None:
        super().__init__()
        self.title = Elided()
        self.bar = QProgressBar()
        self.bar.setFormat("%p %")
        self.bar.setFixedWidth(160)
        self.figures = Elided()
        self.figures.setProperty("tone", "quiet")
        self.button = QToolButton()
        self.button.setText("Show")
        self.button.setToolTip("Show this training on the Run tab")
        self.button.setAccessibleName("Show this training on the Run tab")
        self.button.clicked.connect(lambda: self.wanted.emit())
        row = QHBoxLayout(self)
        row.setContentsMargins(8, 2, 8, 2)
        row.addWidget(self.title)
        row.addWidget(self.bar)
        row.addWidget(self.figures, 1)
        row.addWidget(self.button)
        self.show_run(None, None, 0)

    def show_run(self, record: RunRecord | None, job: Job | None, waiting: int) -> None:
        """Show a training, or that there is none.

        Args:
            record: values of the training.
            job: its job in the queue.
            waiting: number of waiting jobs.
        """
        for widget in (self.bar, self.figures, self.button):
            widget.setVisible(record is not None)
        if record is None:
            self.title.setText(IDLE)
            return
        self.title.setText(f"{record.folder.root.name}: {headline(record, job)}")
        self.bar.setRange(0, max(1, record.steps))
        self.bar.setValue(record.step)
        more = f"   ·   {waiting} waiting" if waiting else ""
        self.figures.setText(figures(record, job) + more)
