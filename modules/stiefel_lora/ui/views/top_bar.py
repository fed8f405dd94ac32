"""The bar above the tabs: presets, files, history, problems, looks."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

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
from ..controllers.pages import label_of
from .preset_chooser import PresetChooser
from .theme import THEMES, apply_theme

if TYPE_CHECKING:
    from .window import MainWindow

__all__ = ["TopBar"]


class TopBar(QWidget):
    """Buttons for what concerns all tabs."""

    def __init__(self, window: MainWindow) -> None:
        super().__init__()
        self._window = window
        self.presets = PresetChooser()
        self.presets.chosen.connect(window.open_file)
        self._shortcut("Ctrl+P", self.presets.open_list)
        document = window.document
        self.load = self._button("Load…", "Load settings from a file", "Ctrl+O")
        self.load.clicked.connect(window.ask_for_file)
        self.save = self._button("Save…", "Save these settings as a preset", "Ctrl+S")
        self.save.clicked.connect(window.save_as)
        self.undo = self._button("Undo", "Take the last change back", "Ctrl+Z")
        self.undo.clicked.connect(document.undo)
        self.redo = self._button("Redo", "Do it again", "Ctrl+Shift+Z")
        self.redo.clicked.connect(document.redo)
        self.differ = self._button(
            "Differences", "Show what differs from the preset", "Ctrl+D"
        )
        self.differ.clicked.connect(window.show_differences)
        self.problems = QToolButton()
        self.problems.setPopupMode(QToolButton.ToolButtonPopupMode.InstantPopup)
        self.problems.setAccessibleName("Problems")
        self.start = QPushButton("Start training")
        self.start.setToolTip("Train with the present settings (Ctrl+R)")
        self.start.clicked.connect(lambda: window.desk.start())
        self.looks = self._looks()
        self._arrange()

    def refresh(self, document: Document, findings: Findings) -> None:
        """Show the state of the document."""
        self.undo.setEnabled(document.can_undo)
        self.redo.setEnabled(document.can_redo)
        changed = document.data != document.baseline
        self.presets.show_name(document.source, changed=changed)
        self.differ.setEnabled(changed)
        self._show_problems(findings)

    def _show_problems(self, findings: Findings) -> None:
        menu = QMenu(self.problems)
        for key, texts in findings.errors.items():
            self._entry(menu, key, texts[0])
        for key in findings.missing:
            self._entry(menu, key, "choose one before you start")
        count = len(menu.actions())
        old = self.problems.menu()
        self.problems.setMenu(menu)
        if old is not None:
            old.deleteLater()
        self.problems.setText(f"{count} to do  ▾")
        self.problems.setVisible(bool(count))

    def _entry(self, menu: QMenu, key: str, text: str) -> None:
        short = text if len(text) <= 90 else f"{text[:87]}…"
        label = label_of(key, self._window.document.optimizer)
        action = menu.addAction(f"{label}: {short}" if label else short)
        action.setToolTip(text)
        action.triggered.connect(lambda: self._window.go_to(key))

    def _looks(self) -> QToolButton:
        button = QToolButton()
        button.setText("Looks  ▾")
        button.setPopupMode(QToolButton.ToolButtonPopupMode.InstantPopup)
        menu = QMenu(button)
        group = QActionGroup(menu)
        for theme in THEMES:
            action = QAction(theme.capitalize(), menu, checkable=True)
            action.setChecked(theme == self._window.memory.theme)
            action.triggered.connect(lambda _=False, name=theme: self.take_look(name))
            group.addAction(action)
            menu.addAction(action)
        button.setMenu(menu)
        return button

    def take_look(self, theme: str) -> None:
        """Colour the window anew."""
        self._window.memory.theme = theme
        apply_theme(theme)
        self._window.desk.run_tab.restyle()
        self._window.examine()
        self._window.remember()

    def _button(self, text: str, hint: str, keys: str) -> QToolButton:
        button = QToolButton()
        button.setText(text)
        button.setToolTip(f"{hint} ({keys})")
        button.setAccessibleName(hint)
        button.setShortcut(QKeySequence(keys))
        return button

    def _shortcut(self, keys: str, call: Callable[[], None]) -> None:
        action = QAction(self)
        action.setShortcut(QKeySequence(keys))
        action.triggered.connect(call)
        self.addAction(action)

    def _arrange(self) -> None:
        row = QHBoxLayout(self)
        row.setContentsMargins(8, 6, 8, 2)
        for widget in (self.presets, self.load, self.save, self.undo, self.redo):
            row.addWidget(widget)
        row.addWidget(self.differ)
        row.addStretch(1)
        row.addWidget(self.problems)
        row.addWidget(self.start)
        row.addWidget(self.looks)
