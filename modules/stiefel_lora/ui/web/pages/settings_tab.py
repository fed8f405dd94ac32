"""Tabs with settings in the browser, created from the schema."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from nicegui import ui

from ....methods import CUSTOM
from ...controllers.findings import Findings
from ...controllers.optimizer_list import (
    optimizer_label,
    optimizer_names,
    optimizer_summary,
    optimizer_unit,
)
from ...controllers.pages import Section, optimizer_fields, sections
from .message_box import Message
from .settings_form import BrowserForm

if TYPE_CHECKING:
    from .browser_session import BrowserSession

__all__ = ["SettingsTab"]


class SettingsTab:
    """Settings of a tab.

    Args:
        session: state of the page.
        tab: name of the tab.
    """

    def __init__(self, session: BrowserSession, tab: str) -> None:
        self.session = session
        self.forms: list[tuple[ui.element, BrowserForm]] = []
        self.optimizer: OptimizerPart | None = None
        with ui.element("div").classes("sl-sections"):
            for section in sections():
                if section.tab == tab:
                    self._add(section)
        self.refresh(session.findings())

    def refresh(self, findings: Findings) -> None:
        """Show the values of the settings and their errors."""
        states = self.session.form.rows(findings, self.session.is_edited)
        for box, form in self.forms:
            for key, row in form.rows.items():
                row.show_state(states[key])
            box.set_visibility(any(states[key].visible for key in form.rows))
        if self.optimizer is not None:
            self.optimizer.refresh(findings)

    def _add(self, section: Section) -> None:
        fields = [field for field in section.fields if field.key != "optimizer"]
        if len(fields) < len(section.fields):
            self.optimizer = OptimizerPart(self.session)
        if not self.session.context.allow_custom_code:
            fields = [field for field in fields if field.key != "plugins"]
        if not fields:
            return
        with ui.element("section").classes("sl-section") as box:
            ui.label(section.title).classes("sl-title")
            form = BrowserForm(fields, self.session.edit, self.session.choose_folder)
        self.forms.append((box, form))


class OptimizerPart:
    """Drop-down list of optimizers, and the options of the selected one."""

    def __init__(self, session: BrowserSession) -> None:
        self.session = session
        self._names = self._list()
        self._shown = ""
        self._drawing = False
        self.form: BrowserForm | None = None
        with ui.element("section").classes("sl-section"):
            ui.label("Optimizer").classes("sl-title")
            labels = {name: optimizer_label(name) for name in self._names}
            self.select = ui.select(
                labels, on_change=lambda event: self._chosen(event.value)
            )
            self.select.props("outlined dense options-dense").classes("w-full")
            self.select.props["aria-label"] = "Optimizer"
            self.select.props["data-key"] = "optimizer"
            self.summary = ui.label()
            self.unit = ui.label().classes("sl-quiet")
            self.note = Message()
            self._options = ui.element("div").classes("w-full")

    def refresh(self, findings: Findings) -> None:
        """Show the optimizer of the settings and its errors."""
        form, name = self.session.form, self.session.context.document.optimizer
        names = self._list()
        if names != self._names:
            # A plugin was loaded.
            self._names = names
            self.select.set_options({n: optimizer_label(n) for n in names})
        if name != self._shown:
            self._take(name)
        assert self.form is not None
        for key, state in form.options(findings, self.session.is_edited).items():
            self.form.rows[key].show_state(state)
        errors = findings.errors.get("optimizer", [])
        remarks = findings.remarks.get("optimizer", [])
        self.note.say("\n".join(errors or remarks), "error" if errors else "remark")

    def _list(self) -> list[str]:
        allowed = self.session.context.allow_custom_code
        return [name for name in optimizer_names() if allowed or name != CUSTOM]

    def _chosen(self, name: str | None) -> None:
        if name is not None and not self._drawing:
            self.session.change(
                lambda: self.session.context.document.choose_optimizer(name)
            )

    def _take(self, name: str) -> None:
        """Show the options of the selected optimizer."""
        self._shown = name
        self._drawing = True
        try:
            # Nothing is selected if the plugin of the optimizer is missing.
            self.select.value = name if name in self._names else None
        finally:
            self._drawing = False
        self.summary.set_text(optimizer_summary(name))
        self.unit.set_text(optimizer_unit(name))
        self._options.clear()
        with self._options:
            self.form = BrowserForm(
                optimizer_fields(name),
                self._edit,
                self.session.choose_folder,
                "optimizer.",
            )

    def _edit(self, key: str, value: Any, typing: bool) -> None:
        self.session.edit(f"optimizer.{key}", value, typing)
