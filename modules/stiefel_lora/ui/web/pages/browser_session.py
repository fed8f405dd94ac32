"""State of a page in a browser, which all of its tabs share."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from nicegui import Client, ui

from ...controllers.findings import Findings
from ...controllers.form_state import FormState, tab_of
from .folder_chooser import choose_folder
from .message_box import attempt, attempt_in_thread
from .server_check import check_of_server

if TYPE_CHECKING:
    from ..context import WebContext

__all__ = ["BrowserSession", "Part"]

# Seconds after a change before the settings are checked and shown in all browsers.
_CHECK_SECONDS = 0.15


class Part(Protocol):
    """Part of a page that shows settings."""

    def refresh(self, findings: Findings) -> None:
        """Show changed settings."""


class BrowserSession:
    """State of a page.

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
        self.client: Client = ui.context.client
        self.tab = tab
        """Name of the tab that is shown."""

        self.tabs: ui.tabs | None = None
        self.parts: dict[str, Part] = {}
        """Tabs that were shown, by name, and the top bar with the name ""."""

        self._edited = ""
        self._handle: asyncio.TimerHandle | None = None
        self._loop = asyncio.get_running_loop()
        self._remove = context.changed(self._schedule)
        self.check.watchers.append(self._schedule)
        self.client.on_delete(self.close)

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
        """Switch to a tab, which is built if it was not shown before."""
        if self.tabs is not None:
            self.tabs.set_value(tab)

    def refresh(self) -> None:
        """Show the settings of the server."""
        self._handle = None
        if self.client.is_deleted:
            return
        with self.client:
            findings = self.findings()
            for name in ("", self.tab):
                if name in self.parts:
                    self.parts[name].refresh(findings)

    def _schedule(self) -> None:
        """Show changed settings soon, once after several changes."""
        if self._handle is None:
            self._handle = self._loop.call_later(_CHECK_SECONDS, self.refresh)
