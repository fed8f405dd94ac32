"""Frame of the page: top bar, tabs, and a description of the focused field."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from nicegui import ui

from ...controllers.pages import TABS
from .browser_bar import BrowserBar
from .browser_session import BrowserSession, Part
from .data_page import DataPage
from .lora_page import LoraPage
from .queue_page import QueuePage
from .run_page import RunPage
from .settings_tab import SettingsTab
from .status_line import StatusLine

if TYPE_CHECKING:
    from ..context import WebContext

__all__ = ["ALL_TABS", "Frame", "slug_of"]

ALL_TABS = (*TABS, "Queue", "Run", "LoRA files")
_HELP = "Select a field to show its description here."
_PAGES: dict[str, Callable[[BrowserSession], Part]] = {
    "Data": DataPage,
    "Queue": QueuePage,
    "Run": RunPage,
    "LoRA files": LoraPage,
}


def slug_of(tab: str) -> str:
    """Return the name of a tab in URLs.

    >>> slug_of("LoRA files")
    'lora-files'
    """
    return tab.lower().replace(" ", "-")


class Frame:
    """Page of a browser. Tabs are built when they are first shown.

    Args:
        context: settings, queue and folders of the server.
        tab: tab that is shown first.
    """

    def __init__(self, context: WebContext, tab: str) -> None:
        self.session = session = BrowserSession(context, tab)
        self.top = session.parts[""] = BrowserBar(session)
        with self.top.header, ui.tabs(on_change=self._switched) as session.tabs:
            session.tabs.props("dense no-caps align=left outside-arrows mobile-arrows")
            session.tabs.classes("sl-tabs w-full")
            for name in ALL_TABS:
                ui.tab(name)
        with ui.element("main").classes("sl-main"):
            self._homes = {name: ui.element("div") for name in ALL_TABS}
        for home in self._homes.values():
            home.classes("w-full").set_visibility(False)
        with ui.footer(bordered=True).classes("sl-footer"):
            self.status = StatusLine(session)
            ui.label(_HELP).classes("sl-help sl-quiet").props("id=sl-help")
        session.show_tab(tab)
        session.refresh()

    def _switched(self, event: Any) -> None:
        session, tab = self.session, str(event.value)
        self._homes[session.tab].set_visibility(False)
        session.tab = tab
        self._homes[tab].set_visibility(True)
        ui.navigate.history.replace("/" if tab == TABS[0] else f"/{slug_of(tab)}")
        if tab in session.parts:
            session.parts[tab].refresh(session.findings())
            return
        with self._homes[tab]:
            make = _PAGES.get(tab)
            session.parts[tab] = make(session) if make else SettingsTab(session, tab)
