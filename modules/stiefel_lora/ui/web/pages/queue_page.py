"""Queue tab in the browser: list of all trainings."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from nicegui import ui

from ....jobs import Job
from ...controllers.findings import Findings
from ...controllers.job_table import (
    QUEUE_HINT,
    QUEUE_ORDERS,
    JobTable,
    allowed_for_job,
)
from ...controllers.run_orders import execute
from .message_box import attempt_in_thread
from .shared_jobs import jobs_of

if TYPE_CHECKING:
    from .browser_session import BrowserSession

__all__ = ["QueuePage"]

_SECONDS = 1.0
# Columns that a small screen has no room for.
_WIDE = ("Steps", "Time left", "Loss", "Validation loss", "Effective rank")


class QueuePage:
    """Table of jobs with buttons.

    Args:
        session: state of the page.
    """

    def __init__(self, session: BrowserSession) -> None:
        self.session = session
        self._texts = JobTable()
        self._shown: list[dict[str, str]] = []
        self._chosen: int | None = None
        self.buttons: dict[str, ui.button] = {}
        ui.label(QUEUE_HINT).classes("sl-quiet")
        with ui.row().classes("gap-1 q-my-sm"):
            for name, text, hint in QUEUE_ORDERS:
                button = ui.button(text, on_click=lambda order=name: self._order(order))
                button.props("outline no-caps dense padding='4px 10px'")
                button.props["title"] = hint
                self.buttons[name] = button
        self.table = ui.table(
            columns=[_column(name) for name in JobTable.HEADINGS],
            rows=[],
            row_key="id",
            selection="single",
            on_select=lambda _: self._selected(),
        )
        self.table.props("dense flat bordered").classes("w-full")
        self.table.props["no-data-label"] = "No trainings yet."
        self.table.on("rowClick", self._clicked, [[], ["id"], []])
        self.table.on("rowDblclick", lambda: self._order("show"), [[], ["id"], []])
        self.look()
        ui.timer(_SECONDS, self.look)

    def refresh(self, findings: Findings) -> None:
        """Show changes of the queue."""
        self.look()

    def look(self, *, fresh: bool = False) -> None:
        """Update the table if the tab is shown and the queue has changed."""
        if self.session.tab != "Queue":
            return
        jobs = jobs_of(self.session.context, fresh=fresh)
        rows = [self._row(job) for job in jobs]
        if rows != self._shown:
            self._shown = rows
            self.table.rows = rows
            self._select(self._chosen)
        self._allow(jobs)

    def _row(self, job: Job) -> dict[str, Any]:
        texts = zip(JobTable.HEADINGS, self._texts.texts(job), strict=True)
        return {"id": job.id, **dict(texts)}

    def _clicked(self, event: Any) -> None:
        self._select(event.args[1]["id"])
        self._allow(jobs_of(self.session.context))

    def _selected(self) -> None:
        rows = self.table.selected
        self._chosen = int(rows[0]["id"]) if rows else None
        self._allow(jobs_of(self.session.context))

    def _select(self, number: int | None) -> None:
        """Keep the selection at the same job when jobs are moved or removed."""
        found = [row for row in self._shown if row["id"] == number]
        self._chosen = number if found else None
        if self.table.selected != found:
            self.table.selected = found

    def _job(self, jobs: list[Job]) -> Job | None:
        return next((job for job in jobs if job.id == self._chosen), None)

    def _allow(self, jobs: list[Job]) -> None:
        for name, on in allowed_for_job(self._job(jobs), jobs).items():
            self.buttons[name].set_enabled(on)

    async def _order(self, name: str) -> None:
        trainings = self.session.context.trainings
        job = self._job(jobs_of(self.session.context))
        if name == "add":
            await self.session.start(show=False)
        elif name == "clear":
            await attempt_in_thread(trainings.clear)
        elif job is not None and name == "show":
            self.session.show_run(job.run_dir)
            return
        elif job is not None:
            await attempt_in_thread(lambda: execute(trainings, name, job))
        self.look(fresh=True)


def _column(name: str) -> dict[str, Any]:
    hidden = "gt-xs" if name in _WIDE else ""
    return {
        "name": name,
        "label": name,
        "field": name,
        "align": "left",
        "classes": hidden,
        "headerClasses": hidden,
    }
