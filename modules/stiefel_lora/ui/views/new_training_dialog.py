"""Dialog that asks for the images and the GPU, and proposes the settings."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from PySide6.QtWidgets import (
    QDialog,
    QDialogButtonBox,
    QFileDialog,
    QFormLayout,
    QHBoxLayout,
    QLabel,
    QLineEdit,
    QPushButton,
    QSpinBox,
    QVBoxLayout,
    QWidget,
)

from ..._diagnosis import gpu_gigabytes
from ..._exceptions import StiefelLoraError
from ...families.catalogue import records
from ...jobs.new_config import KINDS, propose
from ..controllers.document import Document
from ..controllers.proposal_text import reasons_text
from .basics import Combo, Note, PathLine
from .theme import ERROR

__all__ = ["NewTrainingDialog"]

_FAMILIES = {record.label: record.name for record in records()}
_USUAL_GB = 12


class NewTrainingDialog(QDialog):
    """Dialog with the questions of ``stiefel-lora new``.

    The proposed settings replace those of the document in one undo step.
    """

    def __init__(self, document: Document, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self.setWindowTitle("New training")
        self._document = document
        self.kind = _combo(list(KINDS), "What to learn")
        self.folder = PathLine()
        self.folder.setAccessibleName("Folder with images")
        browse = QPushButton("Browse…")
        browse.clicked.connect(self._choose)
        self.family = _combo(list(_FAMILIES), "Base model")
        self.memory = QSpinBox()
        self.memory.setRange(4, 1000)
        self.memory.setSuffix(" GB")
        self.memory.setAccessibleName("GPU memory")
        self.memory.setValue(gpu_gigabytes() or _USUAL_GB)
        self.trigger = QLineEdit()
        self.trigger.setAccessibleName("Trigger word")
        self.trigger.setPlaceholderText("ohwx for a subject, none for a style")
        self.note = Note()
        buttons = QDialogButtonBox(
            QDialogButtonBox.StandardButton.Ok | QDialogButtonBox.StandardButton.Cancel
        )
        buttons.accepted.connect(self.accept)
        buttons.rejected.connect(self.reject)
        line = QHBoxLayout()
        line.addWidget(self.folder, 1)
        line.addWidget(browse)
        form = QFormLayout()
        form.addRow("What to learn", self.kind)
        form.addRow("Folder with images", line)
        form.addRow("GPU memory", self.memory)
        form.addRow("Base model", self.family)
        form.addRow("Trigger word", self.trigger)
        column = QVBoxLayout(self)
        text = QLabel("The settings are chosen for your images and can be changed.")
        text.setWordWrap(True)
        column.addWidget(text)
        column.addLayout(form)
        column.addWidget(self.note)
        column.addWidget(buttons)
        self.resize(
            self.fontMetrics().averageCharWidth() * 80, self.sizeHint().height()
        )
        self.reasons: dict[str, str] = {}
        """Reasons for the proposed values, once accepted."""

    @property
    def reasons_text(self) -> str:
        """Proposed values and their reasons, with the labels of fields."""
        return reasons_text(self.reasons)

    def accept(self) -> None:
        """Propose settings, or show why that is not possible."""
        folder = self.folder.text().strip()
        if not folder:
            self.note.say("Choose the folder with your images.", ERROR)
            return
        try:
            found = propose(
                KINDS[self.kind.currentIndex()],
                Path(folder),
                vram=self.memory.value(),
                family=_FAMILIES[self.family.currentText()],
                trigger_word=self.trigger.text().strip() or None,
            )
            self._document.begin(found.data)
        except StiefelLoraError as error:
            self.note.say(str(error), ERROR)
            return
        self.reasons = found.reasons
        super().accept()

    def _choose(self) -> None:
        chosen = QFileDialog.getExistingDirectory(self, "Folder with images")
        if chosen:
            self.folder.setText(chosen)


def _combo(items: list[str], name: str) -> Any:
    combo = Combo()
    combo.addItems(items)
    combo.setAccessibleName(name)
    return combo
