"""Main window: top bar, tabs, and a description of the focused field."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from PySide6.QtCore import QSize, QTimer
from PySide6.QtGui import QCloseEvent
from PySide6.QtWidgets import (
    QCheckBox,
    QFileDialog,
    QLabel,
    QMainWindow,
    QMessageBox,
    QVBoxLayout,
    QWidget,
)

from ..._exceptions import StiefelLoraError
from ...config.importing import import_file, is_of_other_program
from ..controllers.concept_list import add_folders, set_enabled
from ..controllers.document import Document
from ..controllers.findings import Findings, examine
from ..controllers.form_state import tab_of
from ..controllers.library import demo, user_presets
from ..controllers.memory import Memory
from ..controllers.pages import TABS
from ..controllers.proposal_text import REASONS_TITLE
from .basics import scrolled
from .data_tab import DataTab
from .difference_dialog import DifferenceDialog
from .import_dialog import ImportDialog
from .lora_tab import LoraTab
from .machine_check import MachineCheck
from .new_training_dialog import NewTrainingDialog
from .run_controller import RunController
from .settings_pages import SettingsPages
from .tabs import Tabs
from .theme import application, apply_theme
from .top_bar import TopBar

__all__ = ["MainWindow"]

# Milliseconds after the last keystroke before the settings are checked.
# The last four are configurations of other programs.
_LOADED = "Settings (*.json *.toml *.yaml *.yml *.txt)"
_EXAMINE_MS = 150
_REMEMBER_MS = 1000
# Pixels for the frame and title bar, whose size is unknown before they are shown.
_FRAME = (16, 48)
_HELP = (
    "Click a field to show its description here. Hover over a field to show its limits."
)
_WELCOME = (
    "Welcome! This is the demo preset: press Start training to train on the included "
    "images. To train on your own images, press New…."
)


class MainWindow(QMainWindow):
    """Main window of the GUI.

    Args:
        memory: state of the last session.
    """

    def __init__(self, memory: Memory) -> None:
        super().__init__()
        self.setWindowTitle("Stiefel LoRA")
        self.memory = memory
        self.document = Document()
        self.findings: Findings = examine({})
        self.settings = SettingsPages(self.document)
        self.data = DataTab(self.settings.pages["Data"])
        self.top = TopBar(memory.theme)
        self.tabs = Tabs()
        self.tabs.setDocumentMode(True)
        self.advanced = _advanced_box(memory.advanced)
        self.settings.state.advanced = memory.advanced
        self.tabs.setCornerWidget(self.advanced)
        self.runs = RunController(self)
        self.lora = LoraTab()
        self.machine = MachineCheck(self)
        self._hint = _HELP
        self._welcomed: dict[str, Any] = {}
        self.help = QLabel(_HELP)
        self.help.setProperty("tone", "quiet")
        self.help.setWordWrap(True)
        self.help.setMinimumHeight(2 * self.fontMetrics().lineSpacing() + 6)
        self.help.setContentsMargins(8, 2, 8, 2)
        self._examine = _timer(self, _EXAMINE_MS, self.examine)
        self._remember = _timer(self, _REMEMBER_MS, self.remember)
        self._build()
        self._wire()
        self.document.subscribe(self._changed)
        application().focusChanged.connect(self._explain)
        application().aboutToQuit.connect(self.release)

    def _build(self) -> None:
        central = QWidget()
        column = QVBoxLayout(central)
        column.setContentsMargins(0, 0, 0, 0)
        for widget in (self.top, self.tabs, self.runs.status, self.help):
            column.addWidget(widget)
        self.setCentralWidget(central)
        for tab in TABS:
            page = self.settings.pages[tab]
            self.tabs.addTab(scrolled(self.data if tab == "Data" else page), tab)
        self.tabs.addTab(self.runs.queue_tab, "Queue")
        self.tabs.addTab(self.runs.run_tab, "Run")
        self.tabs.addTab(self.lora, "LoRA files")
        self.tabs.currentChanged.connect(
            lambda _: self.runs.bring(self.tabs.currentWidget())
        )
        self.resize(*self.memory.size[:2])

    def fit_into(self, available: QSize) -> None:
        """Shrink the window to a screen, so that its frame and help line are visible.

        Args:
            available: size of the screen without task bars, in logical pixels.
        """
        room = available - QSize(*_FRAME)
        self.resize(self.size().boundedTo(room))

    def _wire(self) -> None:
        """Connect signals and actions."""
        top, runs = self.top, self.runs
        top.preset_chosen.connect(self.open_file)
        top.new_wanted.connect(self.new_training)
        top.load_wanted.connect(self.ask_for_file)
        top.save_wanted.connect(self.save_as)
        top.undo_wanted.connect(self.document.undo)
        top.redo_wanted.connect(self.document.redo)
        top.differences_wanted.connect(self.show_differences)
        top.setting_wanted.connect(self.go_to)
        top.theme_wanted.connect(self.set_theme)
        top.start_wanted.connect(self.start)
        self.advanced.toggled.connect(self.show_advanced)
        runs.add_wanted.connect(lambda: self.start(show=False))
        runs.tab_wanted.connect(self.show_tab)
        runs.run_shown.connect(self._note_run)
        runs.failed.connect(self.complain)
        self.lora.failed.connect(self.complain)
        self.machine.checked.connect(self.examine)
        self.data.enable_wanted.connect(
            lambda *change: set_enabled(self.document, *change)
        )
        self.data.folders_dropped.connect(self._add_folders)

    # Settings ------------------------------------------------------------------------

    def restore(self) -> None:
        """Restore the settings of the last session."""
        source = Path(self.memory.source) if self.memory.source else None
        try:
            self.document.restore(self.memory.data, source)
        except StiefelLoraError:
            # The preset was removed or changed; keep the settings themselves.
            self.document.restore(self.memory.data, None)
        if self.memory.first:
            self._welcome()
        self.examine()
        self.tabs.setCurrentIndex(self.memory.tab)
        self.runs.open(self.memory.run)

    def _welcome(self) -> None:
        """Load the demo preset when the GUI is started for the first time."""
        self.memory.first = False
        path = demo()
        if path is not None:
            self.open_file(path)
            self.document.forget_history()
            self._hint, self._welcomed = _WELCOME, self.document.data
            self.help.setText(_WELCOME)

    def open_file(self, path: Path) -> None:
        """Load a preset or config file, or import one of another program."""
        try:
            if is_of_other_program(path):
                found = import_file(path)
                self.document.take_over(found.data, path.parent)
                ImportDialog(found.report, path, self).exec()
            else:
                self.document.load(path)
        except StiefelLoraError as error:
            self.complain("The settings could not be loaded.", str(error))
        self.examine()

    def new_training(self) -> None:
        """Open the dialog that proposes settings for a folder of images."""
        dialog = NewTrainingDialog(self.document, self)
        if dialog.exec():
            self.examine()
            self._show_reasons(dialog.reasons_text)
            self.tabs.setCurrentIndex(TABS.index(tab_of("steps")))

    def _show_reasons(self, text: str) -> None:
        """Show why the proposed values were chosen, without waiting for an answer."""
        box = QMessageBox(self)
        box.setWindowTitle("New training")
        box.setText(REASONS_TITLE)
        box.setInformativeText(text)
        box.finished.connect(box.deleteLater)
        box.open()

    def _add_folders(self, folders: list[Path]) -> None:
        """Add image folders that were dropped on the Data tab."""
        refused = add_folders(self.document, folders)
        self.data.select_folder(folders[-1])
        self.examine()
        if refused:
            self.data.say(" ".join(refused))

    def ask_for_file(self) -> None:
        """Show the dialog for loading a file."""
        chosen, _ = QFileDialog.getOpenFileName(
            self, "Load settings", str(user_presets()), _LOADED
        )
        if chosen:
            self.open_file(Path(chosen))

    def save_as(self) -> None:
        """Show the dialog for saving the settings."""
        folder = user_presets()
        folder.mkdir(parents=True, exist_ok=True)
        name = str(self.document.value("run_name")) or "settings"
        chosen, _ = QFileDialog.getSaveFileName(
            self, "Save settings", str(folder / f"{name}.json"), "Settings (*.json)"
        )
        if chosen:
            self.save_to(Path(chosen))

    def save_to(self, path: Path) -> None:
        """Save the settings to a file."""
        path = path if path.suffix else path.with_suffix(".json")
        try:
            self.document.save(path)
        except StiefelLoraError as error:
            self.complain("The settings could not be saved.", str(error))

    def show_differences(self) -> None:
        """Open the dialog with the differences from the preset."""
        DifferenceDialog(self.document, self).exec()

    def go_to(self, key: str) -> None:
        """Show the tab of a setting and focus its editor."""
        self.tabs.setCurrentIndex(TABS.index(tab_of(key)))
        self.settings.focus(key)

    def go_to_problem(self) -> None:
        """Show the first error in the settings."""
        keys = [*self.findings.errors, *self.findings.missing]
        if keys:
            self.go_to(keys[0])

    def start(self, *, show: bool = True) -> None:
        """Start a training with the current settings, or show the first error."""
        self.examine()
        if not self.findings.ready:
            self.go_to_problem()
            # A package may be installed before the next attempt.
            self.machine.forget()
            return
        source = str(self.document.source or "the window")
        self.runs.train(self.document.config, source, show=show)

    def set_theme(self, theme: str) -> None:
        """Change the theme."""
        self.memory.theme = theme
        apply_theme(theme)
        self.runs.run_tab.restyle()
        self.lora.spectrum.restyle()
        self.examine()
        self.remember()

    def show_advanced(self, on: bool) -> None:
        """Show all settings, or the basic ones and those that were changed."""
        self.memory.advanced = self.settings.state.advanced = on
        self.settings.refresh(self.findings)
        self._remember.start()

    def show_tab(self, page: QWidget) -> None:
        """Switch to the tab of ``page``, which may be inside of a scroll area."""
        for index in range(self.tabs.count()):
            tab = self.tabs.widget(index)
            if tab is not None and (tab is page or tab.isAncestorOf(page)):
                self.tabs.setCurrentIndex(index)

    def complain(self, what: str, why: str) -> None:
        """Show an error dialog."""
        box = QMessageBox(QMessageBox.Icon.Warning, self.windowTitle(), what)
        box.setInformativeText(why)
        box.exec()

    def examine(self) -> None:
        """Check the settings and show errors next to the fields."""
        self._examine.stop()
        document = self.document
        self.findings = self.machine.add_to(
            examine(document.data), document.data, document.optimizer
        )
        self.settings.refresh(self.findings)
        self.top.refresh(self.document, self.findings)
        self.data.take_up(self.findings.config)
        if self._hint == _WELCOME and self.document.data != self._welcomed:
            self._hint = _HELP
            self.help.setText(_HELP)

    def _changed(self) -> None:
        self.settings.refresh(self.findings)
        self.top.refresh(self.document, self.findings)
        self._examine.start()
        self._remember.start()

    def _explain(self, _old: QWidget | None, new: QWidget | None) -> None:
        """Show the description of the focused field."""
        while new is not None:
            doc = new.property("doc")
            if doc:
                self.help.setText(doc)
                return
            new = new.parentWidget()
        self.help.setText(self._hint)

    # The window itself ---------------------------------------------------------------

    def _note_run(self, run: str) -> None:
        self.memory.run = run

    def remember(self) -> None:
        """Save the state of the GUI."""
        self._remember.stop()
        self.memory.data = self.document.data
        self.memory.source = str(self.document.source or "")
        self.memory.size = [self.width(), self.height()]
        self.memory.tab = self.tabs.currentIndex()
        self.memory.save()

    def closeEvent(self, event: QCloseEvent) -> None:
        """Save the state when the window is closed. Trainings continue."""
        self.release()
        super().closeEvent(event)

    def release(self) -> None:
        """Save the state and stop all processes and threads of the window.

        This method is called when the window is closed and when the application exits.
        """
        self.runs.close()
        self.machine.stop()
        self.data.finish()
        self.lora.close_files()
        self.remember()


def _advanced_box(on: bool) -> QCheckBox:
    box = QCheckBox("Advanced settings")
    box.setToolTip(
        "Show all settings. Otherwise, the most important ones and those that differ "
        "from the preset are shown."
    )
    box.setChecked(on)
    return box


def _timer(parent: QMainWindow, milliseconds: int, call: object) -> QTimer:
    timer = QTimer(parent, singleShot=True, interval=milliseconds)
    timer.timeout.connect(call)
    return timer
