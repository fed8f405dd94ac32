"""Run tab in the browser: commands, progress, curves, heat map, samples and log."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from nicegui import ui

from ....jobs import Job, Tail
from ...controllers.column_labels import column_labels
from ...controllers.curve_list import CAPTIONS, caption_of_plot
from ...controllers.findings import Findings
from ...controllers.rank_table import BAR, HINT, NO_RANKS, TITLE
from ...controllers.run_changes import CurveCursor, RankCursor
from ...controllers.run_orders import (
    NO_RUN,
    RUN_ORDERS,
    allowed_orders,
    complaint,
    execute,
)
from ...controllers.run_record import RunRecord
from ...controllers.sample_grid import sample_grid
from ...controllers.status import figures, headline
from ...controllers.tensorboard_server import tensorboard_command
from .curve_plot import CurvePlot
from .matrix_plot import VIRIDIS, MatrixPlot
from .message_box import Message, attempt_in_thread, dialog_box
from .samples_view import SamplesView
from .shared_jobs import jobs_of, running_job
from .text_log import TextLog

if TYPE_CHECKING:
    from .browser_session import BrowserSession

__all__ = ["RunPage"]

_SECONDS = 1.0
# Seconds after which the first values of a run that nobody else watches were read.
_FIRST_SECONDS = 0.2
# Lines of the log that a browser gets when it opens the page.
_FIRST_LINES = 300
_LABELS = 6
_BOARD_HINT = (
    "TensorBoard cannot ask for the token of this server, so it is not started here. "
    "Run this command on the server, then open http://127.0.0.1:6006/."
)


class RunPage:
    """Controls and values of a run.

    Args:
        session: state of the page.
    """

    def __init__(self, session: BrowserSession) -> None:
        self.session = session
        self._shown: Path | None = None
        self._revision = -1
        self._record: RunRecord | None = None
        self._log: Tail | None = None
        self._logged: Path | None = None
        self._files: list[Path] = []
        self.buttons: dict[str, ui.button] = {}
        self._build_controls()
        with ui.element("div").classes("sl-run"):
            with ui.element("div").classes("sl-section sl-run-curves"):
                self._build_curves()
            with ui.element("div").classes("sl-section sl-run-map"):
                self._build_map()
            with ui.element("div").classes("sl-section sl-run-below"):
                self._build_below()
        self.look()
        ui.timer(_FIRST_SECONDS, self.look, once=True)
        ui.timer(_SECONDS, self.look)

    def refresh(self, findings: Findings) -> None:
        """Show the present state."""
        self.look()

    def look(self, *, fresh: bool = False) -> None:
        """Send what has changed to the browser, if the tab is shown."""
        if self.session.tab != "Run":
            return
        context, jobs = self.session.context, jobs_of(self.session.context, fresh=fresh)
        run = self._chosen(jobs)
        self._list_runs()
        if run is None:
            self.title.set_text(NO_RUN)
            self._allow(None, None)
            return
        record = context.runs.record(run)
        job = next((job for job in jobs if job.run_dir == run), None)
        if run != self._shown:
            self._shown, self._revision = run, -1
            self.select.set_value(str(run))
        self._show_state(record, job)
        self._show_log(run, job)
        revision = context.runs.revision(run)
        if revision != self._revision or record is not self._record:
            fresh_run = record is not self._record
            self._record, self._revision = record, revision
            self._show_values(record, fresh=fresh_run)

    # Values --------------------------------------------------------------------------

    def _chosen(self, jobs: list[Job]) -> Path | None:
        """Return the run to show: the chosen one, or one that is running."""
        if self.session.run is None or not self.session.run.exists():
            job = running_job(jobs)
            known = self.session.context.runs.folders()
            if self.session.run is None or job is not None:
                self.session.run = job.run_dir if job else next(iter(known), None)
        return self.session.run

    def _show_state(self, record: RunRecord, job: Job | None) -> None:
        self._allow(record, job)
        self.title.set_text(f"{record.folder.root.name}: {headline(record, job)}")
        self.figures.set_text(figures(record, job))
        share = record.step / max(1, record.steps)
        self.bar.set_value(round(min(1.0, share), 3))
        self.percent.set_text(f"{100 * share:.0f} %")
        self.note.say(complaint(record, job), "error")

    def _show_values(self, record: RunRecord, *, fresh: bool = False) -> None:
        steps = max(1, record.steps, record.step)
        for name, plot in self.plots.items():
            if not plot.is_ready:
                continue
            top = record.ranks.rank or None if name == "Effective rank" else None
            changes = self._curves[name].changes(record)
            if changes:
                plot.show_changes(changes, steps, top)
            self.captions[name].set_text(caption_of_plot(name, record))
        self._show_ranks(record)
        if self.samples.is_ready:
            self.samples.show_grid(sample_grid(record), fresh=fresh)
        self._list_files(record)

    def _show_ranks(self, record: RunRecord) -> None:
        if not self.map.is_ready:
            return
        changes = self._ranks.changes(record)
        if not changes:
            return
        table = record.ranks
        names = [str(table.steps[at]) for at in self._ranks.shown]
        labels = column_labels(names, _LABELS)
        if changes.reload:
            self.map.load(changes.columns, table.sections(), labels)
            self.hint.set_text(HINT if names else NO_RANKS)
        else:
            self.map.append(changes.columns, labels)
            if self.hint.text == NO_RANKS:
                self.hint.set_text(HINT)

    def _describe(self, column: int, row: int) -> None:
        shown, record = self._ranks.shown, self._record
        if record is None or not shown:
            return
        inside = 0 <= column < len(shown) and 0 <= row < len(record.ranks.blocks)
        text = record.ranks.describe(shown[column], row) if inside else HINT
        self.hint.set_text(text)

    def _show_log(self, run: Path, job: Job | None) -> None:
        if not self.log.is_ready:
            return
        if run != self._logged:
            self._logged = run
            self.log.clear_text()
            path = self.session.context.trainings.log_of(job) if job else None
            self._log = Tail(path) if path else None
            lines = self._log.lines() if self._log else []
            self.log.add_lines(lines[-_FIRST_LINES:])
        elif self._log is not None:
            self.log.add_lines(self._log.lines())

    def _reload(self) -> None:
        """Send all values, once an element can draw."""
        if self._record is not None:
            self._show_values(self._record)
            if self._shown is not None and self._logged is None:
                self.look()

    # Lists ---------------------------------------------------------------------------

    def _list_runs(self) -> None:
        folders = self.session.context.runs.folders()
        run = self.session.run
        if run is not None and run not in folders:
            folders = [run, *folders]
        options = {str(folder): folder.name for folder in folders}
        if options != self.select.options:
            self.select.set_options(options, value=str(run) if run else None)

    def _run_chosen(self, value: str | None) -> None:
        if value and Path(value) != self.session.run:
            self.session.show_run(Path(value))
            self.look()

    def _list_files(self, record: RunRecord) -> None:
        runs = self.session.context.runs
        if record.lora_files == self._files and record is self._record:
            return
        self._files = list(record.lora_files)
        self.files.clear()
        with self.files:
            for path in reversed(self._files):
                link = ui.link(path.name, runs.url_of(path)).classes("sl-file")
                link.props["download"] = path.name
            zipped = ui.link("The run as zip", runs.zip_url(record.folder.root))
            zipped.classes("sl-file").props("download")
            whole = ui.link(
                "The run with checkpoints as zip",
                runs.zip_url(record.folder.root, checkpoints=True),
            )
            whole.classes("sl-file").props("download")

    # Commands ------------------------------------------------------------------------

    def _allow(self, record: RunRecord | None, job: Job | None) -> None:
        for name, on in allowed_orders(record, job).items():
            self.buttons[name].set_enabled(on)
        folder = record.folder if record is not None else None
        self.download.set_enabled(folder is not None and folder.root.is_dir())
        self.board.set_enabled(folder is not None and folder.tensorboard.is_dir())

    async def _order(self, name: str) -> None:
        context, run = self.session.context, self.session.run
        if run is not None:
            job = context.trainings.job_of(run)
            await attempt_in_thread(lambda: execute(context.trainings, name, job, run))
            self.look(fresh=True)

    def _show_board(self) -> None:
        """Show how to start TensorBoard, which cannot ask for the token."""
        if self._record is None:
            return
        with dialog_box() as dialog:
            ui.label("TensorBoard").classes("sl-title")
            ui.label(_BOARD_HINT)
            command = tensorboard_command(self._record.folder.tensorboard)
            ui.label(command).classes("sl-command")
            ui.label("On your own machine, if the server is another one:")
            tunnel = "ssh -N -L 6006:127.0.0.1:6006 user@machine"
            ui.label(tunnel).classes("sl-command")
            ui.button("Close", on_click=dialog.close).props("no-caps flat")

    # Elements ------------------------------------------------------------------------

    def _build_controls(self) -> None:
        with ui.row().classes("w-full gap-1 items-center"):
            self.select = ui.select(
                {}, on_change=lambda event: self._run_chosen(event.value)
            )
            self.select.props("outlined dense options-dense").classes("sl-runs")
            self.select.props["aria-label"] = "Run"
            for name, text, hint in RUN_ORDERS:
                button = ui.button(text, on_click=lambda order=name: self._order(order))
                button.props("outline no-caps dense padding='4px 10px'")
                button.props["title"] = hint
                self.buttons[name] = button
            self.download = ui.button("Download")
            self.download.props("outline no-caps dense padding='4px 10px'")
            self.download.props["title"] = "Download LoRA files or the run"
            with self.download, ui.menu():
                self.files = ui.element("div").classes("sl-files")
            self.board = ui.button("TensorBoard", on_click=self._show_board)
            self.board.props("outline no-caps dense padding='4px 10px'")
            self.board.props["title"] = "Show how to start TensorBoard for this run"
        with ui.element("div").classes("sl-run-state"):
            self.title = ui.label(NO_RUN).classes("sl-title")
            self.bar = ui.linear_progress(0, show_value=False).classes("sl-progress")
            self.percent = ui.label()
        self.figures = ui.label().classes("sl-quiet")
        self.note = Message()

    def _build_curves(self) -> None:
        self.plots: dict[str, CurvePlot] = {}
        self.captions: dict[str, ui.label] = {}
        self._curves = {name: CurveCursor(name) for name in CAPTIONS}
        for name, text in CAPTIONS.items():
            self.plots[name] = CurvePlot(name, self._reload)
            self.captions[name] = ui.label(text).classes("sl-quiet sl-caption")

    def _build_map(self) -> None:
        self._ranks = RankCursor()
        ui.label(TITLE).classes("sl-title")
        self.map = MatrixPlot(
            TITLE,
            ("Block", "Step"),
            VIRIDIS,
            BAR,
            ready=self._reload,
            hovered=self._describe,
        )
        self.hint = ui.label(NO_RANKS).classes("sl-quiet sl-caption sl-hint")

    def _build_below(self) -> None:
        with ui.tabs().props("dense no-caps align=left") as tabs:
            ui.tab("Samples")
            ui.tab("Log")
        with ui.tab_panels(tabs, value="Samples", keep_alive=True, animated=False):
            with ui.tab_panel("Samples").classes("p-0"):
                url_of = self.session.context.runs.url_of
                self.samples = SamplesView(self._reload, url_of)
            with ui.tab_panel("Log").classes("p-0"):
                self.log = TextLog("Log", self.look)
