"""Controller of the Run and Queue tabs."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from PySide6.QtCore import QObject, QTimer, QUrl, Signal
from PySide6.QtGui import QDesktopServices
from PySide6.QtWidgets import QWidget

from ..._exceptions import StiefelLoraError
from ...config import TrainConfig
from ...jobs import Job, JobState, Tail
from ..controllers.run_orders import execute
from ..controllers.run_record import RunRecord
from ..controllers.tensorboard_server import TensorBoardServer
from ..controllers.trainings import Trainings
from .queue_tab import QueueTab
from .run_tab import RunTab
from .status_bar import StatusBar

__all__ = ["RunController"]

_LOOK_MS = 500
# Milliseconds between updates while a long run is being read.
_READ_ON_MS = 20
# Updates between checks for dead jobs.
_SETTLE_EVERY = 10
_SERVER_MS = 400


class RunController(QObject):
    """Show runs on the Run and Queue tabs, and execute commands.

    Signals to the main window: ``add_wanted`` to add a training with the current
    settings to the queue, ``tab_wanted`` to show a tab, ``run_shown`` with the folder
    of the run on the Run tab, and ``failed`` with an error message and its reason.
    """

    add_wanted = Signal()
    tab_wanted = Signal(QWidget)
    run_shown = Signal(str)
    failed = Signal(str, str)

    def __init__(self, parent: QObject | None = None) -> None:
        super().__init__(parent)
        self.run_tab = RunTab()
        self.queue_tab = QueueTab()
        self.status = StatusBar()
        self.status.wanted.connect(self._show_current)
        self.run_tab.ordered.connect(self.order)
        self.queue_tab.ordered.connect(self.order_job)
        self.server = TensorBoardServer()
        self.record: RunRecord | None = None
        self._current: RunRecord | None = None
        self.trainings: Trainings | None = None
        self._front: QWidget | None = None
        self._log: Tail | None = None
        self._updates = 0
        self._timer = QTimer(self, interval=_LOOK_MS)
        self._timer.timeout.connect(self.look)
        self._server_timer = QTimer(self, interval=_SERVER_MS)
        self._server_timer.timeout.connect(self._open_browser)

    def open(self, run: str) -> None:
        """Open the queue. Show a running training or the last run."""
        if not self._try(self._open_queue, "The queue could not be opened."):
            return
        assert self.trainings is not None
        running = self.trainings.running()
        if running:
            self.show(running[-1].run_dir)
        elif run and Path(run).is_dir():
            self.show(Path(run))
        self._timer.start()
        self.look()

    def close(self) -> None:
        """Release the resources of the GUI. Trainings continue."""
        self._timer.stop()
        self._server_timer.stop()
        self.server.stop()
        self.run_tab.gallery.finish()

    def show(self, run_dir: Path) -> None:
        """Show the run of a folder."""
        self.record = RunRecord(run_dir)
        job = self._job()
        if job is not None:
            self.record.steps = self.record.steps or job.steps
        self._log = Tail(self.trainings.log_of(job)) if job and self.trainings else None
        self.run_tab.clear()
        self.run_shown.emit(str(run_dir))
        self.look()

    def bring(self, page: QWidget) -> None:
        """Set the visible tab, which is updated regularly."""
        self._front = page
        self.look()

    def look(self) -> None:
        """Read and show new data."""
        if self.trainings is None:
            return
        self._updates += 1
        try:
            if self._updates % _SETTLE_EVERY == 1:
                self.trainings.settle()
            self._show_all(self.trainings)
        except StiefelLoraError as error:
            self.run_tab.note.say(str(error), "error")

    def _show_all(self, trainings: Trainings) -> None:
        more = self.record.look() if self.record else False
        behind = more and self.record is not None and self.record.behind
        self._timer.setInterval(_READ_ON_MS if behind else _LOOK_MS)
        if behind:
            return
        jobs = trainings.jobs()
        if self._front is self.queue_tab:
            self.queue_tab.show_jobs(jobs)
        if self._log is not None:
            self.run_tab.add_log(self._log.lines())
        if self._front is self.run_tab:
            self.run_tab.show_run(self.record, self._job())
        # The Run tab shows the same values.
        self.status.setVisible(self._front is not self.run_tab)
        self._show_status(jobs)

    def _show_status(self, jobs: list[Job]) -> None:
        """Show the running training in the status bar, or that of the Run tab."""
        running = {job.run_dir for job in jobs if job.state is JobState.RUNNING}
        chosen = self.record
        if running and (chosen is None or chosen.folder.root not in running):
            current = self._current
            if current is None or current.folder.root not in running:
                current = RunRecord(min(running))
            current.look()
            chosen = current
        self._current = chosen
        found = [job for job in jobs if chosen and job.run_dir == chosen.folder.root]
        waiting = sum(job.state is JobState.WAITING for job in jobs)
        self.status.show_run(chosen, found[0] if found else None, waiting)

    def _show_current(self) -> None:
        """Show the training of the status bar on the Run tab."""
        current = self._current
        self.tab_wanted.emit(self.run_tab)
        if current is not None and current is not self.record:
            self.show(current.folder.root)

    # Orders --------------------------------------------------------------------------

    def order(self, name: str) -> None:
        """Execute a command of the Run tab."""
        own: dict[str, Callable[[], None]] = {
            "board": self._show_tensorboard,
            "folder": self._folder,
        }
        own.get(name, lambda: self._order(name, self._job()))()

    def order_job(self, name: str, number: int) -> None:
        """Execute a command of the Queue tab."""
        trainings = self.trainings
        if trainings is None:
            return
        if name == "add":
            self.add_wanted.emit()
        elif name == "clear":
            self._try(trainings.clear, "The list could not be cleared.")
            self.look()
        else:
            job = next((job for job in trainings.jobs() if job.id == number), None)
            if name == "show" and job is not None:
                self.tab_wanted.emit(self.run_tab)
                self.show(job.run_dir)
            else:
                self._order(name, job)

    def train(
        self, settings: Callable[[], TrainConfig], source: str, *, show: bool
    ) -> None:
        """Queue a training.

        Args:
            settings: function that returns the validated configuration, or raises an
                error.
            source: name of the preset or file.
            show: function that shows the Run tab.
        """
        trainings = self.trainings
        if trainings is None:
            return
        added: list[Job] = []
        done = self._try(
            lambda: added.append(trainings.add(settings(), source)),
            "The training could not be started.",
        )
        if done and show:
            self.tab_wanted.emit(self.run_tab)
            self.show(added[0].run_dir)
        self.look()

    def _order(self, name: str, job: Job | None) -> None:
        trainings = self.trainings
        if trainings is None:
            return
        run_dir = self.record.folder.root if self.record is not None else None
        self._try(
            lambda: execute(trainings, name, job, run_dir),
            "The command could not be executed.",
        )
        self.look()

    def _job(self) -> Job | None:
        if self.record is None or self.trainings is None:
            return None
        return self.trainings.job_of(self.record.folder.root)

    def _try(self, action: Callable[[], object], what: str) -> bool:
        try:
            action()
        except (StiefelLoraError, OSError) as error:
            self.failed.emit(what, str(error))
            return False
        return True

    def _open_queue(self) -> None:
        self.trainings = Trainings()

    # Outside of the window -----------------------------------------------------------

    def _folder(self) -> None:
        if self.record is not None:
            url = QUrl.fromLocalFile(str(self.record.folder.root))
            QDesktopServices.openUrl(url)

    def _show_tensorboard(self) -> None:
        if self.record is None:
            return
        folder = self.record.folder.tensorboard
        if self._try(
            lambda: self.server.start(folder), "TensorBoard could not be started."
        ):
            self._server_timer.start()

    def _open_browser(self) -> None:
        """Open the browser as soon as TensorBoard responds."""
        if self.server.answers():
            QDesktopServices.openUrl(QUrl(self.server.address))
        elif not self.server.ended:
            return
        self._server_timer.stop()
