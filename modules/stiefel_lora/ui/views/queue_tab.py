"""Queue tab: list of all trainings."""

from __future__ import annotations

from PySide6.QtCore import Signal
from PySide6.QtWidgets import (
    QAbstractItemView,
    QHBoxLayout,
    QHeaderView,
    QLabel,
    QPushButton,
    QTableWidget,
    QTableWidgetItem,
    QVBoxLayout,
    QWidget,
)

from ...jobs import Job
from ..controllers.job_table import (
    QUEUE_HINT,
    QUEUE_ORDERS,
    JobTable,
    allowed_for_job,
)

__all__ = ["QueueTab"]


class QueueTab(QWidget):
    """Tab with a table of jobs. ``ordered`` emits a command and a job number, or 0."""

    ordered = Signal(str, int)

    def __init__(self) -> None:
        super().__init__()
        self.buttons: dict[str, QPushButton] = {}
        self.hint = QLabel(QUEUE_HINT)
        self.hint.setWordWrap(True)
        self.hint.setProperty("tone", "quiet")
        self.table = QTableWidget(0, len(JobTable.HEADINGS))
        self.table.setHorizontalHeaderLabels(JobTable.HEADINGS)
        self.table.verticalHeader().hide()
        self.table.setEditTriggers(QAbstractItemView.EditTrigger.NoEditTriggers)
        self.table.setSelectionBehavior(QAbstractItemView.SelectionBehavior.SelectRows)
        self.table.setSelectionMode(QAbstractItemView.SelectionMode.SingleSelection)
        self.table.setAlternatingRowColors(True)
        self.table.setTabKeyNavigation(False)
        header = self.table.horizontalHeader()
        header.setSectionResizeMode(QHeaderView.ResizeMode.ResizeToContents)
        last = len(JobTable.HEADINGS) - 1
        header.setSectionResizeMode(last, QHeaderView.ResizeMode.Stretch)
        self.table.itemActivated.connect(lambda _: self._order("show"))
        self.table.itemSelectionChanged.connect(self._allow)
        self._jobs: list[Job] = []
        self._texts = JobTable()
        self._arrange()
        self._allow()

    @property
    def chosen(self) -> Job | None:
        """Return the selected job."""
        row = self.table.currentRow()
        return self._jobs[row] if 0 <= row < len(self._jobs) else None

    def show_jobs(self, jobs: list[Job]) -> None:
        """Update the table."""
        chosen = self.chosen
        self._jobs = jobs
        self.table.setRowCount(len(jobs))
        for row, job in enumerate(jobs):
            for column, text in enumerate(self._texts.texts(job)):
                self._write(row, column, text)
            if chosen is not None and job.id == chosen.id:
                # The selection stays at the same job when jobs are moved or removed.
                self.table.setCurrentCell(row, max(0, self.table.currentColumn()))
        self._allow()

    def _write(self, row: int, column: int, text: str) -> None:
        item = self.table.item(row, column)
        if item is None:
            item = QTableWidgetItem()
            self.table.setItem(row, column, item)
        if item.text() != text:
            item.setText(text)
            item.setToolTip(text)

    def _allow(self) -> None:
        job = self.chosen
        for name, on in allowed_for_job(job, self._jobs).items():
            self.buttons[name].setEnabled(on)

    def _order(self, name: str) -> None:
        job = self.chosen
        self.ordered.emit(name, job.id if job else 0)

    def _arrange(self) -> None:
        orders = QHBoxLayout()
        for name, text, hint in QUEUE_ORDERS:
            button = QPushButton(text)
            button.setToolTip(hint)
            button.clicked.connect(lambda _=False, order=name: self._order(order))
            self.buttons[name] = button
            orders.addWidget(button)
        orders.addStretch(1)
        column = QVBoxLayout(self)
        column.addWidget(self.hint)
        column.addLayout(orders)
        column.addWidget(self.table, 1)
