"""Status of the current training in the browser, below all tabs."""

from __future__ import annotations

from typing import TYPE_CHECKING

from nicegui import ui

from ....jobs import JobState
from ...controllers.status import IDLE, figures, headline
from .shared_jobs import jobs_of, running_job

if TYPE_CHECKING:
    from .browser_session import BrowserSession

__all__ = ["StatusLine"]

_SECONDS = 2.0


class StatusLine:
    """Row with the name, state, progress and values of the running training.

    Args:
        session: state of the page.
    """

    def __init__(self, session: BrowserSession) -> None:
        self.session = session
        with ui.element("div").classes("sl-status") as self.root:
            self.title = ui.label(IDLE).classes("sl-line")
            self.bar = ui.linear_progress(0, show_value=False).classes("sl-progress")
            self.figures = ui.label().classes("sl-line sl-quiet gt-xs")
            self.button = ui.button("Show", on_click=self._show)
            self.button.props("flat dense no-caps padding='0 8px'")
            self.button.props["title"] = "Show this training on the Run tab"
        ui.timer(_SECONDS, self.look)

    def look(self) -> None:
        """Show the running training, if another tab is shown than Run, or a problem."""
        context = self.session.context
        jobs = jobs_of(context)
        problem = context.queue_problem or context.save_problem
        visible = self.session.tab != "Run" or bool(problem)
        self.root.set_visibility(visible)
        if not visible:
            return
        job = None if problem else running_job(jobs)
        self.title.classes(**{"add" if problem else "remove": "sl-error"})
        for element in (self.bar, self.figures, self.button):
            element.set_visibility(job is not None)
        if job is None:
            self.title.set_text(problem or IDLE)
            return
        record = context.runs.record(job.run_dir)
        self.title.set_text(f"{record.folder.root.name}: {headline(record, job)}")
        self.bar.set_value(round(record.step / max(1, record.steps), 3))
        waiting = sum(each.state is JobState.WAITING for each in jobs)
        more = f"   ·   {waiting} waiting" if waiting else ""
        self.figures.set_text(figures(record, job) + more)

    def _show(self) -> None:
        job = running_job(jobs_of(self.session.context))
        if job is not None:
            self.session.show_run(job.run_dir)
