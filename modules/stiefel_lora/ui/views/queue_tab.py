"""Queue tab: list of all trainings."""

from __future__ import annotations

from pathlib import Path

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

from ...jobs import Job, JobState, Watch
from ...runs.pace import duration

__all__ = ["QueueTab"]

_HEADINGS = (
    "Name",
    "State",
    "Steps",
    "Progress",
    "Time left",
    "Loss",
    "Validation loss",
    "Effective rank",
    "Message",
)
_ORDERS = (
    (
        "add",
        "Add to queue",
        "Add a training with the current settings to the end of the queue",
    ),
    ("show", "Show", "Show this training on the Run tab"),
    ("up", "▲ Up", "Train before the previous waiting training"),
    ("down", "▼ Down", "Train after the next waiting training"),
    ("stop", "Stop", "Save a checkpoint after the current step and stop"),
    ("resume", "Resume", "Resume from the last checkpoint"),
    (
        "cancel",
        "Cancel",
        "Remove this training from the queue. A running training saves a checkpoint "
        "and stops",
    ),
    (
        "clear",
        "Clear finished",
        "Remove finished trainings from the list. Their files are kept",
    ),
)
_HINT = (
    "Trainings run one at a time in separate processes and continue when this window "
    "is closed. The queue is shared with the command line: stiefel-lora queue list."
)
_MOVABLE = (JobState.WAITING, JobState.PAUSED)


class QueueTab(QWidget):
    """Tab with a table of jobs. ``ordered`` emits a command and a job number, or 0."""

    ordered = Signal(str, int)

    def __init__(self) -> None:
        super().__init__()
        self.buttons: dict[str, QPushButton] = {}
        self.hint = QLabel(_HINT)
        self.hint.setWordWrap(True)
        self.hint.setProperty("tone", "quiet")
        self.table = QTableWidget(0, len(_HEADINGS))
        self.table.setHorizontalHeaderLabels(_HEADINGS)
        self.table.verticalHeader().hide()
        self.table.setEditTriggers(QAbstractItemView.EditTrigger.NoEditTriggers)
        self.table.setSelectionBehavior(QAbstractItemView.SelectionBehavior.SelectRows)
        self.table.setSelectionMode(QAbstractItemView.SelectionMode.SingleSelection)
        self.table.setAlternatingRowColors(True)
        self.table.setTabKeyNavigation(False)
        header = self.table.horizontalHeader()
        header.setSectionResizeMode(QHeaderView.ResizeMode.ResizeToContents)
        header.setSectionResizeMode(len(_HEADINGS) - 1, QHeaderView.ResizeMode.Stretch)
        self.table.itemActivated.connect(lambda _: self._order("show"))
        self.table.itemSelectionChanged.connect(self._allow)
        self._jobs: list[Job] = []
        self._watches: dict[Path, Watch] = {}
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
            for column, text in enumerate(self._texts(job)):
                self._write(row, column, text)
            if chosen is not None and job.id == chosen.id:
                # The selection stays at the same job when jobs are moved or removed.
                self.table.setCurrentCell(row, max(0, self.table.currentColumn()))
        self._allow()

    def _texts(self, job: Job) -> tuple[str, ...]:
        watch = self._watches.setdefault(job.run_dir, Watch(job))
        found = watch.progress()
        left = watch.seconds_left(job)
        state = f"{job.state.value} ({job.wish})" if job.wish else job.state.value
        return (
            job.name,
            state,
            f"{found.step} / {job.steps}",
            f"{100 * found.step // max(1, job.steps)} %",
            "" if left is None else duration(left),
            _number(found.loss, 4),
            _number(found.validation_loss, 4),
            _number(found.effective_rank, 1),
            job.message,
        )

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
        state = job.state if job else None
        movable = [j.id for j in self._jobs if j.state in _MOVABLE]
        place = movable.index(job.id) if job and job.id in movable else None
        allowed = {
            "show": job is not None,
            "up": bool(place),
            "down": place is not None and place < len(movable) - 1,
            "stop": state in (JobState.RUNNING, JobState.WAITING),
            "resume": state in (JobState.PAUSED, JobState.FAILED, JobState.CANCELLED),
            "cancel": state in (JobState.RUNNING, JobState.WAITING, JobState.PAUSED),
            "clear": bool(self._jobs),
        }
        for name, on in allowed.items():
            self.buttons[name].setEnabled(on)

    def _order(self, name: str) -> None:
        job = self.chosen
        self.ordered.emit(name, job.id if job else 0)

    def _arrange(self) -> None:
        orders = QHBoxLayout()
        for name, text, hint in _ORDERS:
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


def _number(value: float | None, digits: int) -> str:
    return "" if value is None else f"{value:.{digits}f}"
