"""Connects the tabs Run and Queue with the trainings: looks, orders, complaints."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, cast, get_args

from PySide6.QtCore import QTimer, QUrl
from PySide6.QtGui import QDesktopServices

from ..._exceptions import StiefelLoraError
from ...jobs import Job, Tail
from ...runs.commands import Command
from ..controllers.board import Board
from ..controllers.run_record import RunRecord
from ..controllers.trainings import Trainings
from .queue_tab import QueueTab
from .run_tab import RunTab

if TYPE_CHECKING:
    from .window import MainWindow

__all__ = ["Desk"]

_LOOK_MS = 500
# While a long run is being read there is always more.
_READ_ON_MS = 20
# How often jobs that died are looked for, in looks.
_SETTLE_EVERY = 10
_BOARD_MS = 400


class Desk:
    """What happens on the tabs Run and Queue.

    Args:
        window: whose settings are trained.
    """

    def __init__(self, window: MainWindow) -> None:
        self.window = window
        self.run_tab = RunTab()
        self.queue_tab = QueueTab()
        self.run_tab.ordered.connect(self.order)
        self.queue_tab.ordered.connect(self.order_job)
        self.board = Board()
        self.record: RunRecord | None = None
        self.trainings: Trainings | None = None
        self._log: Tail | None = None
        self._looks = 0
        self._timer = QTimer(window, interval=_LOOK_MS)
        self._timer.timeout.connect(self.look)
        self._board_timer = QTimer(window, interval=_BOARD_MS)
        self._board_timer.timeout.connect(self._open_board)

    def open(self, run: str) -> None:
        """Open the queue; show a running training, or else the run of last time."""
        if not self._try(self._open_queue, "The queue can not be opened."):
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
        """Let go of what only the window needs; trainings go on."""
        self._timer.stop()
        self._board_timer.stop()
        self.board.stop()

    def show(self, run_dir: Path) -> None:
        """Show the run in a folder."""
        self.record = RunRecord(run_dir)
        job = self._job()
        if job is not None:
            self.record.steps = self.record.steps or job.steps
        self._log = Tail(self.trainings.log_of(job)) if job and self.trainings else None
        self.run_tab.clear()
        self.window.memory.run = str(run_dir)
        self.look()

    def look(self) -> None:
        """Read what is new and show it."""
        if self.trainings is None:
            return
        self._looks += 1
        try:
            if self._looks % _SETTLE_EVERY == 1:
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
        shown = self.window.tabs.currentWidget()
        if shown is self.queue_tab:
            self.queue_tab.show_jobs(trainings.jobs())
        if self._log is not None:
            self.run_tab.add_log(self._log.lines())
        if shown is self.run_tab:
            self.run_tab.show_run(self.record, self._job())

    # Orders --------------------------------------------------------------------------

    def order(self, name: str) -> None:
        """Do what a button of the tab Run says."""
        if name in ("start", "board", "folder"):
            {"start": self.start, "board": self._show_board, "folder": self._folder}[
                name
            ]()
        else:
            self._order(name, self._job())

    def order_job(self, name: str, number: int) -> None:
        """Do what a button of the tab Queue says."""
        trainings = self.trainings
        if trainings is None:
            return
        if name == "add":
            self.start(show=False)
        elif name == "clear":
            self._try(trainings.clear, "The list can not be cleared.")
            self.look()
        else:
            job = next((job for job in trainings.jobs() if job.id == number), None)
            if name == "show" and job is not None:
                self.window.show_tab(self.run_tab)
                self.show(job.run_dir)
            else:
                self._order(name, job)

    def start(self, *, show: bool = True) -> None:
        """Train with the settings of the window."""
        window = self.window
        window.examine()
        if not window.findings.ready:
            window.go_to_problem()
            return
        if self.trainings is None:
            return
        added: list[Job] = []
        done = self._try(
            lambda: added.append(self._add()), "This training can not start."
        )
        if done and show:
            window.show_tab(self.run_tab)
            self.show(added[0].run_dir)
        self.look()

    def _add(self) -> Job:
        assert self.trainings is not None
        document = self.window.document
        source = str(document.source or "the window")
        return self.trainings.add(document.config(), source)

    def _order(self, name: str, job: Job | None) -> None:
        trainings = self.trainings
        if trainings is None:
            return
        if job is None:
            self._order_foreign(trainings, name)
            return
        orders: dict[str, Callable[[], None]] = {
            "stop": lambda: trainings.stop(job),
            "resume": lambda: trainings.resume(job),
            "cancel": lambda: trainings.cancel(job),
            "sample": lambda: trainings.send(job.run_dir, "sample"),
            "save": lambda: trainings.send(job.run_dir, "save"),
        }
        self._try(orders[name], "This order can not be followed.")
        self.look()

    def _order_foreign(self, trainings: Trainings, name: str) -> None:
        """An order to a run that is not in the queue."""
        if self.record is not None and name in get_args(Command):
            run_dir = self.record.folder.root
            command = cast("Command", name)
            self._try(
                lambda: trainings.send(run_dir, command), "This order can not be given."
            )

    def _job(self) -> Job | None:
        if self.record is None or self.trainings is None:
            return None
        return self.trainings.job_of(self.record.folder.root)

    def _try(self, action: Callable[[], object], what: str) -> bool:
        try:
            action()
        except (StiefelLoraError, OSError) as error:
            self.window.complain(what, str(error))
            return False
        return True

    def _open_queue(self) -> None:
        self.trainings = Trainings()

    # Outside of the window -----------------------------------------------------------

    def _folder(self) -> None:
        if self.record is not None:
            url = QUrl.fromLocalFile(str(self.record.folder.root))
            QDesktopServices.openUrl(url)

    def _show_board(self) -> None:
        if self.record is None:
            return
        folder = self.record.folder.tensorboard
        if self._try(lambda: self.board.start(folder), "TensorBoard does not start."):
            self._board_timer.start()

    def _open_board(self) -> None:
        """Open the browser as soon as TensorBoard answers."""
        if self.board.answers():
            QDesktopServices.openUrl(QUrl(self.board.address))
        elif not self.board.ended:
            return
        self._board_timer.stop()
