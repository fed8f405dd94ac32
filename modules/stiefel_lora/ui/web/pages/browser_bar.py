"""Bar above the tabs in the browser: presets, files, undo, problems and theme."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from nicegui import ui

from ...controllers.findings import Findings
from ...controllers.library import preset_title
from ...controllers.problem_list import OpenProblem, open_problems, problem_count
from .settings_dialogs import (
    open_differences,
    open_file_chooser,
    open_new_training,
    open_presets,
    open_save,
)

if TYPE_CHECKING:
    from .browser_session import BrowserSession

__all__ = ["BrowserBar"]

THEMES = {"system": None, "light": False, "dark": True}
# Classes of buttons that are in the menu on small screens.
_WIDE, _NARROW = "gt-sm", "lt-md"


class BrowserBar:
    """Bar with the buttons above the tabs.

    Args:
        session: state of the page.
    """

    def __init__(self, session: BrowserSession) -> None:
        self.session = session
        document = session.context.document
        theme = session.context.memory.theme
        self.dark = ui.dark_mode(THEMES.get(theme))
        self.header = ui.header(wrap=True).props("height-hint=84")
        with self.header, ui.element("div").classes("sl-bar"):
            self.preset = _button("", "Choose a preset", lambda: open_presets(session))
            self.preset.classes("sl-preset").props("icon-right=arrow_drop_down")
            for text, hint, call in self._files():
                _button(text, hint, call).classes(_WIDE)
            self.undo = _button("", "Undo the last change", document.undo, "undo")
            self.redo = _button(
                "", "Redo the last undone change", document.redo, "redo"
            )
            self.redo.classes(_WIDE)
            self.differ = _button(
                "Differences",
                "Show the differences from the preset",
                lambda: open_differences(session),
            )
            self.differ.classes(_WIDE)
            ui.space()
            with _button("", "Problems", None).props("color=negative") as self.problems:
                self._problems = ui.menu().props("max-width=90vw")
            self.start = _button(
                "Start training", "Train with the current settings", None
            )
            self.start.props("unelevated color=primary", remove="flat")
            self.start.on_click(self._start)
            self._menu()
        self._shown: list[OpenProblem] | None = None

    def refresh(self, findings: Findings) -> None:
        """Show the state of the settings."""
        document = self.session.context.document
        changed = document.data != document.baseline
        self.undo.set_enabled(document.can_undo)
        self.redo.set_enabled(document.can_redo)
        self.differ.set_enabled(changed)
        self.preset.set_text(preset_title(document.source, changed=changed))
        problems = open_problems(findings, document.optimizer)
        if problems != self._shown:
            self._shown = problems
            self._show_problems(problems)

    async def _start(self) -> None:
        # The images are scanned first.
        self.start.props["loading"] = True
        try:
            await self.session.start()
        finally:
            self.start.props["loading"] = False

    def _show_problems(self, problems: list[OpenProblem]) -> None:
        self.problems.set_visibility(bool(problems))
        self.problems.set_text(problem_count(len(problems)))
        self._problems.clear()
        with self._problems:
            for problem in problems:
                item = ui.menu_item(
                    problem.title, lambda key=problem.key: self.session.go_to(key)
                )
                item.props["title"] = problem.message

    def _files(self) -> list[tuple[str, str, Callable[[], object]]]:
        session = self.session
        return [
            (
                "New…",
                "Choose settings for your images",
                lambda: open_new_training(session),
            ),
            (
                "Load…",
                "Load settings, also of other trainers",
                lambda: open_file_chooser(session),
            ),
            ("Save…", "Save the settings as a preset", lambda: open_save(session)),
        ]

    def _menu(self) -> None:
        session = self.session
        with _button("", "More", None, "more_vert"), ui.menu():
            self.advanced = ui.checkbox(
                "Advanced settings",
                value=session.form.advanced,
                on_change=lambda event: session.show_advanced(bool(event.value)),
            ).classes("q-px-sm")
            for text, hint, call in self._files():
                ui.menu_item(text, call).classes(_NARROW).props["title"] = hint
            for text, call in (
                ("Redo", session.context.document.redo),
                ("Differences", lambda: open_differences(session)),
            ):
                ui.menu_item(text, call).classes(_NARROW)
            ui.separator()
            for theme in THEMES:
                ui.menu_item(
                    f"Theme: {theme}", lambda name=theme: self._set_theme(name)
                )

    def _set_theme(self, theme: str) -> None:
        self.session.context.memory.theme = theme
        self.session.context.remember()
        self.dark.set_value(THEMES[theme])


def _button(
    text: str, hint: str, call: Callable[[], object] | None, icon: str | None = None
) -> ui.button:
    button = ui.button(text, on_click=call, icon=icon)
    button.props("flat no-caps dense padding='4px 8px'")
    button.props["aria-label"] = hint
    button.props["title"] = hint
    return button
