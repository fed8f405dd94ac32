"""Dialog that writes captions with a model, in a separate process."""

from __future__ import annotations

from pathlib import Path

from PySide6.QtCore import Signal
from PySide6.QtGui import QCloseEvent
from PySide6.QtWidgets import (
    QCheckBox,
    QDialog,
    QDoubleSpinBox,
    QFileDialog,
    QFormLayout,
    QHBoxLayout,
    QLineEdit,
    QPlainTextEdit,
    QProgressBar,
    QPushButton,
    QVBoxLayout,
    QWidget,
)

from ...config.caption_extension import TEXT
from ..controllers.auto_captions import (
    EXAMPLE,
    LOADING,
    STOPPED,
    CaptionRequest,
    missing_tagger,
    progress_in,
    result_of,
)
from .basics import Note, PathLine
from .command_process import CommandProcess
from .theme import ERROR, QUIET, REMARK

__all__ = ["AutoCaptionDialog"]


class AutoCaptionDialog(QDialog):
    """Dialog for ``stiefel-lora caption``.

    ``changed`` is emitted when the command has ended, also if it failed or was stopped,
    since captions may have been written.

    Args:
        folder: folder with the images.
        deep: whether subfolders are included.
        parent: window of the dialog.
        extension: extension of caption files.
    """

    changed = Signal()
    last_model = ""
    """Model of the last dialog of this session."""

    def __init__(
        self,
        folder: Path,
        deep: bool,
        parent: QWidget | None = None,
        *,
        extension: str = TEXT,
    ) -> None:
        super().__init__(parent)
        self.setWindowTitle(f"Write captions: {folder.name}")
        self._folder, self._deep, self._extension = folder, deep, extension
        self.model = PathLine(AutoCaptionDialog.last_model)
        self.model.setPlaceholderText(f"folder, or a name such as {EXAMPLE}")
        self.model.textChanged.connect(self._allow)
        self.browse = QPushButton("Browse…")
        self.browse.clicked.connect(self._choose)
        self.threshold = _probability(0.35)
        self.character = _probability(0.85)
        self.exclude = QLineEdit()
        self.exclude.setPlaceholderText("tags, separated by commas")
        self.overwrite = QCheckBox("Replace existing captions")
        self.download = QCheckBox(
            "Download the model from the Hugging Face Hub if it is not on this machine"
        )
        self.note = Note()
        self.note.say(missing_tagger(), REMARK)
        self.bar = QProgressBar()
        self.bar.setVisible(False)
        self.output = QPlainTextEdit()
        self.output.setReadOnly(True)
        self.output.setAccessibleName("Captions that were written")
        self.output.setPlaceholderText("Captions that are written appear here.")
        self.start = QPushButton("Start")
        self.start.setDefault(True)
        self.start.clicked.connect(self._start)
        self.stop = QPushButton("Stop")
        self.stop.clicked.connect(self._stop)
        self.leave = QPushButton("Close")
        self.leave.clicked.connect(self.close)
        self._process = CommandProcess(self)
        self._process.printed.connect(self._printed)
        self._process.ended.connect(self._ended)
        self._arrange()
        self._allow()

    def request(self) -> CaptionRequest:
        """Return the arguments of the command."""
        return CaptionRequest(
            folder=self._folder,
            model=self.model.text().strip(),
            include_subdirectories=self._deep,
            overwrite=self.overwrite.isChecked(),
            download=self.download.isChecked(),
            threshold=self.threshold.value(),
            character_threshold=self.character.value(),
            exclude=self.exclude.text().strip(),
            extension=self._extension,
        )

    def reject(self) -> None:
        """Stop the command when the dialog is closed by Escape."""
        self._stop()
        super().reject()

    def closeEvent(self, event: QCloseEvent) -> None:
        """Stop the command when the dialog is closed."""
        self._stop()
        super().closeEvent(event)

    def _start(self) -> None:
        AutoCaptionDialog.last_model = self.model.text().strip()
        self.output.clear()
        self.note.say(LOADING, QUIET)
        # Until the first image, the number of images is unknown.
        self.bar.setRange(0, 0)
        self.bar.setVisible(True)
        self._process.start(self.request().command())
        self._allow()

    def _stop(self) -> None:
        if self._process.is_running:
            self._process.stop()
            self.note.say(STOPPED, REMARK)
            self._rest()

    def _printed(self, text: str) -> None:
        self.output.appendPlainText(text.rstrip("\n"))
        found = progress_in(text)
        if found is not None:
            self.bar.setRange(0, found[1])
            self.bar.setValue(found[0])
            self.note.say("", QUIET)

    def _ended(self, code: int, output: str, errors: str) -> None:
        text, failed = result_of(code, output, errors)
        self.note.say(text, ERROR if failed else REMARK)
        self._rest()

    def _rest(self) -> None:
        self.bar.setVisible(False)
        self._allow()
        self.changed.emit()

    def _allow(self) -> None:
        running = self._process.is_running
        self.start.setEnabled(not running and bool(self.model.text().strip()))
        self.stop.setEnabled(running)

    def _choose(self) -> None:
        chosen = QFileDialog.getExistingDirectory(self, "Folder of the model")
        if chosen:
            self.model.setText(chosen)

    def _arrange(self) -> None:
        line = QHBoxLayout()
        line.addWidget(self.model, 1)
        line.addWidget(self.browse)
        form = QFormLayout()
        form.addRow("Model", line)
        for name, widget in (
            ("Tag threshold", self.threshold),
            ("Character threshold", self.character),
            ("Exclude tags", self.exclude),
        ):
            widget.setAccessibleName(name)
            form.addRow(name, widget)
        self.model.setAccessibleName("Model")
        row = QHBoxLayout()
        row.addStretch(1)
        for button in (self.start, self.stop, self.leave):
            row.addWidget(button)
        column = QVBoxLayout(self)
        column.addLayout(form)
        for widget in (self.overwrite, self.download, self.note, self.bar):
            column.addWidget(widget)
        column.addWidget(self.output, 1)
        column.addLayout(row)
        self.resize(self.fontMetrics().averageCharWidth() * 100, 480)


def _probability(value: float) -> QDoubleSpinBox:
    box = QDoubleSpinBox()
    box.setRange(0.01, 1.0)
    box.setSingleStep(0.05)
    box.setValue(value)
    return box
