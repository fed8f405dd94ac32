"""The tab LoRA files: look at files, resize one, merge several, save the result."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Callable
from pathlib import Path

from PySide6.QtCore import QProcess, Qt, Signal
from PySide6.QtGui import QDragEnterEvent, QDropEvent
from PySide6.QtWidgets import (
    QAbstractItemView,
    QFileDialog,
    QHBoxLayout,
    QHeaderView,
    QLabel,
    QPushButton,
    QSpinBox,
    QSplitter,
    QTableWidget,
    QTableWidgetItem,
    QVBoxLayout,
    QWidget,
)

from ..controllers.lora_files import (
    LoraEntry,
    Result,
    command,
    merge_arguments,
    parse_entry,
)
from .spectrum import Spectrum

__all__ = ["LoraTab"]

_FILES = "LoRA files (*.safetensors)"
_COLUMNS = ("File", "Weight", "Family", "Spelling", "Rank", "Effective rank")
_COLUMNS += ("Norm", "MB", "Faults")
_WEIGHT = 1
_DROP = (
    "Drop LoRA files here, or add them. Resize one, or merge all with their weights."
)
_MAX_RANK = 1024


class LoraTab(QWidget):
    """Files, their spectrum, and the verbs on them."""

    failed = Signal(str, str)

    def __init__(self) -> None:
        super().__init__()
        self.setAcceptDrops(True)
        self.entries: list[LoraEntry] = []
        self._folder = tempfile.TemporaryDirectory(prefix="stiefel_lora_")
        self._process: QProcess | None = None
        self._waiting: list[Path] = []
        self._made: Path | None = None
        self.table = _table()
        self.spectrum = Spectrum()
        self.add = QPushButton("Add files")
        self.remove = QPushButton("Remove")
        self.rank = QSpinBox()
        self.rank.setRange(1, _MAX_RANK)
        self.rank.setValue(16)
        self.resize_ = QPushButton("Resize")
        self.resize_.setToolTip("Truncate the chosen file to this rank")
        self.merge = QPushButton("Merge")
        self.merge.setToolTip("Add all files with their weights, exactly")
        self.merge_small = QPushButton("Merge to rank")
        self.merge_small.setToolTip("The same, truncated to this rank")
        self.save = QPushButton("Save as")
        self.state = QLabel(_DROP)
        self.state.setWordWrap(True)
        self._build()
        self._wire()
        self._enable()

    def _build(self) -> None:
        row = QHBoxLayout()
        for widget in (self.add, self.remove):
            row.addWidget(widget)
        row.addSpacing(16)
        row.addWidget(QLabel("Rank"))
        for widget in (self.rank, self.resize_, self.merge, self.merge_small):
            row.addWidget(widget)
        row.addStretch()
        row.addWidget(self.save)
        halves = QSplitter(Qt.Orientation.Vertical)
        halves.addWidget(self.table)
        halves.addWidget(self.spectrum)
        halves.setStretchFactor(1, 1)
        halves.setSizes([160, 400])
        column = QVBoxLayout(self)
        column.addLayout(row)
        column.addWidget(self.state)
        column.addWidget(halves, 1)

    def _wire(self) -> None:
        self.add.clicked.connect(self._choose)
        self.remove.clicked.connect(self._remove)
        self.resize_.clicked.connect(self.start_resize)
        self.merge.clicked.connect(lambda: self.start_merge(None))
        self.merge_small.clicked.connect(lambda: self.start_merge(self.rank.value()))
        self.save.clicked.connect(self._save)
        self.table.itemSelectionChanged.connect(self._chosen_changed)

    # Files ---------------------------------------------------------------------------

    def dragEnterEvent(self, event: QDragEnterEvent) -> None:
        """Accept LoRA files."""
        if _dropped(event):
            event.acceptProposedAction()

    def dropEvent(self, event: QDropEvent) -> None:
        """Add the files."""
        self.open_files(_dropped(event))

    def open_files(self, paths: list[Path]) -> None:
        """Inspect files one after the other and add them to the table."""
        self._waiting += [path for path in paths if path not in self._waiting]
        self._next_file()

    def _next_file(self) -> None:
        if self._process is not None or not self._waiting:
            return
        path = self._waiting.pop(0)
        self.state.setText(f"Inspecting {path.name} …")
        self._run(["inspect", str(path), "--json", "--allow-unknown"], self._add_entry)

    def _add_entry(self, text: str) -> None:
        entry = parse_entry(text)
        self.entries.append(entry)
        row = self.table.rowCount()
        self.table.setRowCount(row + 1)
        for column, value in enumerate((entry.path.name, "1", *entry.facts)):
            item = QTableWidgetItem(value)
            if column != _WEIGHT:
                item.setFlags(item.flags() & ~Qt.ItemFlag.ItemIsEditable)
            if column == 0:
                item.setToolTip(str(entry.path))
            self.table.setItem(row, column, item)
        self.table.selectRow(row)
        self.state.setText(_DROP)

    def _choose(self) -> None:
        paths, _ = QFileDialog.getOpenFileNames(self, "Add LoRA files", "", _FILES)
        self.open_files([Path(path) for path in paths])

    def _remove(self) -> None:
        row = self._row()
        if row is not None:
            del self.entries[row]
            self.table.removeRow(row)
            self._chosen_changed()

    def _text(self, row: int, column: int) -> str:
        item = self.table.item(row, column)
        return "" if item is None else item.text()

    def _row(self) -> int | None:
        rows = self.table.selectionModel().selectedRows()
        return rows[0].row() if rows else None

    def _chosen_changed(self) -> None:
        row = self._row()
        known = row is not None and row < len(self.entries)
        self.spectrum.show_entry(
            self.entries[row] if known and row is not None else None
        )
        self._enable()

    # Verbs ---------------------------------------------------------------------------

    def start_resize(self) -> None:
        """Write the chosen file at the rank of the box to a temporary file."""
        row = self._row()
        if row is not None:
            path, output = self.entries[row].path, self._output()
            rank = str(self.rank.value())
            self.state.setText(f"Resizing {path.name} to rank {rank} …")
            given = ["resize", str(path), "--rank", rank, "--output", str(output)]
            self._run([*given, "--json"], self._show_result)

    def start_merge(self, rank: int | None) -> None:
        """Write the weighted sum of all files to a temporary file."""
        try:
            files = [
                (entry.path, float(self._text(row, _WEIGHT)))
                for row, entry in enumerate(self.entries)
            ]
        except ValueError:
            self.failed.emit("The files cannot be merged.", "A weight is no number.")
            return
        self.state.setText(f"Merging {len(files)} files …")
        self._run(merge_arguments(files, rank, self._output()), self._show_result)

    def _output(self) -> Path:
        self._made = None
        path = Path(self._folder.name, "result.safetensors")
        path.unlink(missing_ok=True)
        return path

    def _show_result(self, text: str) -> None:
        result = Result.parse(text)
        self._made = Path(self._folder.name, "result.safetensors")
        lines = [f"{result.sentence()} Not saved yet.", *result.checks]
        self.state.setText("\n".join(lines))

    def _save(self) -> None:
        chosen, _ = QFileDialog.getSaveFileName(self, "Save LoRA", "", _FILES)
        if chosen:
            self.save_to(Path(chosen))

    def save_to(self, path: Path) -> None:
        """Copy the result to a file that the user chose."""
        if self._made is None:
            return
        path = path if path.suffix else path.with_suffix(".safetensors")
        part = path.with_name(f".{path.name}.part")
        try:
            shutil.copyfile(self._made, part)
            part.replace(path)
        except OSError as error:
            part.unlink(missing_ok=True)
            self.failed.emit("The file cannot be saved.", f"{path}: {error.strerror}.")
            return
        self.state.setText(f"Saved {path}.")

    # The process ---------------------------------------------------------------------

    def _run(self, arguments: list[str], done: Callable[[str], None]) -> None:
        program, *given = command(*arguments)
        process = QProcess(self)
        self._process = process

        def finished(code: int, _status: object = None) -> None:
            output = bytes(process.readAllStandardOutput().data()).decode()
            errors = bytes(process.readAllStandardError().data()).decode().strip()
            self._process = None
            process.deleteLater()
            if code == 0:
                done(output)
            else:
                self.state.setText(_DROP)
                self.failed.emit("This is not possible.", errors or "It was ended.")
            self._enable()
            self._next_file()

        process.finished.connect(finished)
        process.start(program, given)
        self._enable()

    def _enable(self) -> None:
        free, row = self._process is None, self._row()
        self.remove.setEnabled(free and row is not None)
        self.resize_.setEnabled(free and row is not None)
        self.merge.setEnabled(free and len(self.entries) > 1)
        self.merge_small.setEnabled(free and len(self.entries) > 1)
        self.save.setEnabled(free and self._made is not None)

    def close_files(self) -> None:
        """End a running process and remove temporary files."""
        if self._process is not None:
            self._process.finished.disconnect()
            self._process.kill()
            self._process.waitForFinished(1000)
            self._process = None
        self._folder.cleanup()


def _table() -> QTableWidget:
    table = QTableWidget(0, len(_COLUMNS))
    table.setHorizontalHeaderLabels(_COLUMNS)
    table.verticalHeader().hide()
    table.setSelectionBehavior(QAbstractItemView.SelectionBehavior.SelectRows)
    table.setSelectionMode(QAbstractItemView.SelectionMode.SingleSelection)
    header = table.horizontalHeader()
    header.setSectionResizeMode(QHeaderView.ResizeMode.ResizeToContents)
    header.setSectionResizeMode(0, QHeaderView.ResizeMode.Stretch)
    return table


def _dropped(event: QDropEvent) -> list[Path]:
    paths = [Path(url.toLocalFile()) for url in event.mimeData().urls()]
    return [path for path in paths if path.suffix == ".safetensors"]
