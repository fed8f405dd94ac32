"""Bar above the tabs: presets, files, undo, problems and theme."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from PySide6.QtCore import Signal, SignalInstance
from PySide6.QtGui import QAction, QActionGroup, QKeySequence
from PySide6.QtWidgets import (
    QHBoxLayout,
    QMenu,
    QPushButton,
    QToolButton,
    QWidget,
)

from ..controllers.document import Document
from ..controllers.findings import Findings
from ..controllers.problem_list import (
    OpenProblem,
    open_problems,
    problem_count,
)
from .preset_chooser import PresetChooser
from .theme import THEMES

__all__ = ["TopBar"]


class TopBar(QWidget):
    """Bar with the buttons above the tabs.

    Args:
        theme: current theme.
    """

    preset_chosen = Signal(Path)
    new_wanted = Signal()
    load_wanted = Signal()
    save_wanted = Signal()
    undo_wanted = Signal()
    redo_wanted = Signal()
    differences_wanted = Signal()
    start_wanted = Signal()
    setting_wanted = Signal(str)
    """Emits the key of a setting with a problem."""

    theme_wanted = Signal(str)

    def __init__(self, theme: str) -> None:
        super().__init__()
        self.presets = PresetChooser()
        self.presets.chosen.connect(self.preset_chosen)
        self._shortcut("Ctrl+P", self.presets.open_list)
        self.new = self._button(
            "New…", "Choose settings for your images", "Ctrl+N", self.new_wanted
        )
        self.load = self._button(
            "Load…", "Load settings, also of other trainers", "Ctrl+O", self.load_wanted
        )
        self.save = self._button(
            "Save…", "Save the settings as a preset", "Ctrl+S", self.save_wanted
        )
        self.undo = self._button(
            "Undo", "Undo the last change", "Ctrl+Z", self.undo_wanted
        )
        self.redo = self._button(
            "Redo", "Redo the last undone change", "Ctrl+Shift+Z", self.redo_wanted
        )
        self.differ = self._button(
            "Differences",
            "Show the differences from the preset",
            "Ctrl+D",
            self.differences_wanted,
        )
        self.problems = QToolButton()
        self.problems.setPopupMode(QToolButton.ToolButtonPopupMode.InstantPopup)
        self.problems.setAccessibleName("Problems")
        self.start = QPushButton("Start training")
        self.start.setObjectName("primary")
        self.start.setShortcut("Ctrl+R")
        self.start.setToolTip("Train with the current settings (Ctrl+R)")
        self.start.clicked.connect(lambda: self.start_wanted.emit())
        self.themes = self._theme_button(theme)
        self._arrange()

    def refresh(self, document: Document, findings: Findings) -> None:
        """Show the state of the settings."""
        self.undo.setEnabled(document.can_undo)
        self.redo.setEnabled(document.can_redo)
        changed = document.data != document.baseline
        self.presets.show_name(document.source, changed=changed)
        self.differ.setEnabled(changed)
        self._show_problems(findings, document.optimizer)

    def _show_problems(self, findings: Findings, method: str) -> None:
        menu = QMenu(self.problems)
        for problem in open_problems(findings, method):
            self._entry(menu, problem)
        count = len(menu.actions())
        old = self.problems.menu()
        self.problems.setMenu(menu)
        if old is not None:
            old.deleteLater()
        self.problems.setText(f"{problem_count(count)}  ▾")
        self.problems.setVisible(bool(count))

    def _entry(self, menu: QMenu, problem: OpenProblem) -> None:
        action = menu.addAction(problem.title)
        action.setToolTip(problem.message)
        action.triggered.connect(lambda: self.setting_wanted.emit(problem.key))

    def _theme_button(self, present: str) -> QToolButton:
        button = QToolButton()
        button.setText("Theme  ▾")
        button.setPopupMode(QToolButton.ToolButtonPopupMode.InstantPopup)
        menu = QMenu(button)
        group = QActionGroup(menu)
        for theme in THEMES:
            action = QAction(theme.capitalize(), menu, checkable=True)
            action.setChecked(theme == present)
            action.triggered.connect(
                lambda _=False, name=theme: self.theme_wanted.emit(name)
            )
            group.addAction(action)
            menu.addAction(action)
        button.setMenu(menu)
        return button

    def _button(
        self, text: str, hint: str, keys: str, wanted: SignalInstance
    ) -> QToolButton:
        button = QToolButton()
        button.setText(text)
        button.setToolTip(f"{hint} ({keys})")
        button.setAccessibleName(hint)
        button.setShortcut(QKeySequence(keys))
        button.clicked.connect(lambda: wanted.emit())
        return button

    def _shortcut(self, keys: str, call: Callable[[], None]) -> None:
        action = QAction(self)
        action.setShortcut(QKeySequence(keys))
        action.triggered.connect(call)
        self.addAction(action)

    def _arrange(self) -> None:
        row = QHBoxLayout(self)
        row.setContentsMargins(8, 6, 8, 2)
        for widget in (self.presets, self.new, self.load, self.save):
            row.addWidget(widget)
        for widget in (self.undo, self.redo, self.differ):
            row.addWidget(widget)
        row.addStretch(1)
        row.addWidget(self.problems)
        row.addWidget(self.start)
        row.addWidget(self.themes)
