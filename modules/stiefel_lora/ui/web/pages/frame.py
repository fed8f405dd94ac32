"""Frame of the page: top bar, tabs, and a description of the focused field."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from nicegui import Client, ui

from ...controllers.findings import Findings
from ...controllers.form_state import FormState, tab_of
from ...controllers.pages import TABS
from .browser_bar import BrowserBar
from .data_page import DataPage
from .folder_chooser import choose_folder
from .lora_page import LoraPage
from .notes import attempt, attempt_in_thread
from .queue_page import QueuePage
from .run_page import RunPage
from .server_check import check_of_server
from .settings_tab import SettingsTab
from .status_line import StatusLine

if TYPE_CHECKING:
    from ..context import WebContext

__all__ = ["ALL_TABS", "Frame", "slug_of"]

ALL_TABS = (*TABS, "Queue", "Run", "LoRA files")
# Seconds after a change before the settings are checked and shown in all browsers.
_CHECK_SECONDS = 0.15
_HELP = "Select a field to show its description here."


class Part(Protocol):
    """Content of a tab."""

    def refresh(self, findings: Findings) -> None:
        """Show changed settings."""


def slug_of(tab: str) -> str:
    """Return the name of a tab in URLs.

    >>> slug_of("LoRA files")
    'lora-files'
    """
    return tab.lower().replace(" ", "-")


class Frame:
    """Page of a browser.

    Args:
        context: settings, queue and folders of the server.
        tab: tab that is shown first.
    """

    def __init__(self, context: WebContext, tab: str) -> None:
        self.context = context
        self.check = check_of_server(context)
        self.form = FormState(context.document)
        self.form.advanced = context.memory.advanced
        self.run: Path | None = Path(context.memory.run) if context.memory.run else None
        self._edited = ""
        self._parts: dict[str, Part] = {}
        self._handle: asyncio.TimerHandle | None = None
        self._loop = asyncio.get_running_loop()
        self.client: Client = ui.context.client
        self.tab = tab
        self.top = BrowserBar(self)
        self._build()
        self._remove = context.changed(self._schedule)
        self.check.watchers.append(self._schedule)
        self.client.on_delete(self.close)
        self.show_tab(tab)
        self.refresh()

    def findings(self) -> Findings:
        """Return the errors and warnings of the settings."""
        return self.check.findings()

    def close(self) -> None:
        """Stop updates of this page."""
        self._remove()
        self.check.watchers.remove(self._schedule)
        if self._handle is not None:
            self._handle.cancel()

    # Settings ------------------------------------------------------------------------

    def edit(self, key: str, value: Any, typing: bool) -> None:
        """Set a value that the user has entered."""
        self._edited = key
        self.change(lambda: self.context.document.set(key, value, typing=typing))

    def change(self, action: Callable[[], object]) -> bool:
        """Change the settings, and show an error. Return whether there was none."""
        done = attempt(action)
        if not done:
            self._schedule()
        return done

    def is_edited(self, key: str) -> bool:
        """Return whether the user has edited a setting last, so that it stays shown."""
        return key == self._edited

    def go_to(self, key: str) -> None:
        """Show the tab of a setting and focus its editor."""
        self.form.reveal(key)
        self.show_tab(tab_of(key))
        self.refresh()
        ui.run_javascript(f"slFocus({key!r})")

    def show_advanced(self, on: bool) -> None:
        """Show all settings, or the basic ones and those that were changed."""
        self.form.advanced = self.context.memory.advanced = on
        self.context.remember()
        self.refresh()

    async def start(self, *, show: bool = True) -> None:
        """Start a training with the current settings, or show the first error."""
        findings = self.findings()
        if not findings.ready:
            keys = [*findings.errors, *findings.missing]
            self.go_to(keys[0])
            return
        job = await attempt_in_thread(self.context.start)
        if job is not None and show:
            self.show_run(job.run_dir)

    def show_run(self, run_dir: Path) -> None:
        """Show a run on the Run tab."""
        self.run = run_dir
        self.context.memory.run = str(run_dir)
        self.context.remember()
        self.show_tab("Run")

    def choose_folder(self, text: str, take: Callable[[Path], None]) -> None:
        """Let the user choose an image folder on the server."""
        choose_folder(self.context.images, text, take)

    # Tabs ----------------------------------------------------------------------------

    def show_tab(self, tab: str) -> None:
        """Switch to a tab, and build it if it was not shown before."""
        self.tabs.set_value(tab)

    def refresh(self) -> None:
        """Show the settings of the server."""
        self._handle = None
        if self.client.is_deleted:
            return
        with self.client:
            findings = self.findings()
            self.top.refresh(findings)
            part = self._parts.get(self.tab)
            if part is not None:
                part.refresh(findings)

    def _schedule(self) -> None:
        """Show changed settings soon, once after several changes."""
        if self._handle is None:
            self._handle = self._loop.call_later(_CHECK_SECONDS, self.refresh)

    def _build(self) -> None:
        with self.top.header, ui.tabs(on_change=self._switched) as self.tabs:
            self.tabs.props("dense no-caps align=left outside-arrows mobile-arrows")
            self.tabs.classes("sl-tabs w-full")
            for tab in ALL_TABS:
                ui.tab(tab)
        with ui.element("main").classes("sl-main"):
            self._homes = {tab: ui.element("div").classes("w-full") for tab in ALL_TABS}
        for home in self._homes.values():
            home.set_visibility(False)
        with ui.footer(bordered=True).classes("sl-footer"):
            self.status = StatusLine(self)
            ui.label(_HELP).classes("sl-help sl-quiet").props("id=sl-help")

    def _switched(self, event: Any) -> None:
        tab = str(event.value)
        self._homes[self.tab].set_visibility(False)
        self.tab = tab
        self._homes[tab].set_visibility(True)
        ui.navigate.history.replace("/" if tab == TABS[0] else f"/{slug_of(tab)}")
        if tab in self._parts:
            self._parts[tab].refresh(self.findings())
            return
        makers: dict[str, Callable[[Frame], Part]] = {
            "Data": DataPage,
            "Queue": QueuePage,
            "Run": RunPage,
            "LoRA files": LoraPage,
        }
        with self._homes[tab]:
            make = makers.get(tab)
            self._parts[tab] = make(self) if make else SettingsTab(self, tab)
