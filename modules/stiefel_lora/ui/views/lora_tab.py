"""LoRA files tab: inspect, resize, merge, convert, verify and extract LoRA files."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path

from PySide6.QtCore import Qt, Signal
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

from ..._exceptions import OutputError
from ...files.tools.output_path import check_new_folder, check_output, with_suffix
from ..controllers.lora_files import (
    COLUMNS,
    MAX_RANK,
    SPELLINGS,
    LoraEntry,
    Result,
    command,
    convert_arguments,
    extract_arguments,
    inspect_arguments,
    merge_arguments,
    parse_checks,
    parse_entry,
    resize_arguments,
    usable_output,
    verify_arguments,
)
from .basics import Combo, Note
from .command_process import CommandProcess
from .spectrum import Spectrum
from .theme import ERROR, REMARK

__all__ = ["LoraTab"]

_FILES = "LoRA files (*.safetensors)"
_WEIGHT = 1
_DEFECTS = len(COLUMNS) - 1
_DROP = (
    "Drop LoRA files here, or click Add files. You can resize, convert or verify "
    "the selected file, or merge all files with their weights. Extract creates a "
    "LoRA from two checkpoints."
)
_CHECKPOINTS = "Checkpoints (*.safetensors)"


class LoraTab(QWidget):
    """Tab with a table of LoRA files, their spectrum, and buttons for commands."""

    failed = Signal(str, str)

    def __init__(self) -> None:
        super().__init__()
        self.setAcceptDrops(True)
        self.entries: list[LoraEntry] = []
        self._folder = tempfile.TemporaryDirectory(prefix="stiefel_lora_")
        self._process = CommandProcess(self)
        self._process.ended.connect(self._ended)
        self._verb = ""
        self._done: Callable[[str], None] = self._add_entry
        self._waiting: list[Path] = []
        self._unread: list[str] = []
        self._made: Path | None = None
        self._target = Path()
        self._inputs: list[Path] = []
        self.table = _table()
        self.spectrum = Spectrum()
        self.add = QPushButton("Add files")
        self.remove = QPushButton("Remove")
        self.rank = QSpinBox()
        self.rank.setRange(1, MAX_RANK)
        self.rank.setValue(16)
        self.resize_ = QPushButton("Resize")
        self.resize_.setToolTip("Reduce the selected LoRA to this rank")
        self.merge = QPushButton("Merge")
        self.merge.setToolTip(
            "Merge all files as a weighted sum without reducing the rank"
        )
        self.merge_small = QPushButton("Merge to rank")
        self.merge_small.setToolTip(
            "Merge all files as a weighted sum and reduce the result to this rank"
        )
        self.spelling = Combo()
        self.spelling.addItems(SPELLINGS)
        self.convert = QPushButton("Convert")
        self.convert.setToolTip("Convert the selected file to this key format")
        self.verify = QPushButton("Verify")
        self.verify.setToolTip(
            "Check whether other programs can load the selected file"
        )
        self.extract = QPushButton("Extract")
        self.extract.setToolTip(
            "Create a LoRA of this rank from the difference between two checkpoints"
        )
        self.save = QPushButton("Save as")
        self.state = QLabel(_DROP)
        self.state.setWordWrap(True)
        self.notes = Note()
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
        row.addWidget(self.extract)
        row.addStretch()
        row.addWidget(self.save)
        second = QHBoxLayout()
        second.addWidget(QLabel("Key format"))
        for widget in (self.spelling, self.convert, self.verify):
            second.addWidget(widget)
        second.addStretch()
        halves = QSplitter(Qt.Orientation.Vertical)
        halves.addWidget(self.table)
        halves.addWidget(self.spectrum)
        halves.setStretchFactor(1, 1)
        halves.setSizes([160, 400])
        column = QVBoxLayout(self)
        column.addLayout(row)
        column.addLayout(second)
        column.addWidget(self.state)
        column.addWidget(self.notes)
        column.addWidget(halves, 1)

    def _wire(self) -> None:
        self.add.clicked.connect(self._choose)
        self.remove.clicked.connect(self._remove)
        self.resize_.clicked.connect(self.start_resize)
        self.merge.clicked.connect(lambda: self.start_merge(None))
        self.merge_small.clicked.connect(lambda: self.start_merge(self.rank.value()))
        self.convert.clicked.connect(self.start_convert)
        self.verify.clicked.connect(self.start_verify)
        self.extract.clicked.connect(self._choose_checkpoints)
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
        """Inspect files and add them to the table."""
        self._waiting += [path for path in paths if path not in self._waiting]
        self._next_file()

    def _next_file(self) -> None:
        if self._process.is_running or not self._waiting:
            return
        path = self._waiting.pop(0)
        self.state.setText(f"Inspecting {path.name} …")
        self._run(inspect_arguments(path), self._add_entry)

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
            if column == _DEFECTS:
                item.setToolTip("\n".join(entry.not_finite))
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
        entry = self.entries[row] if known and row is not None else None
        self.spectrum.show_entry(entry)
        notes = "" if entry is None else "\n".join(entry.notes)
        self.notes.say(notes, ERROR if entry and entry.not_finite else REMARK)
        self._enable()

    # Verbs ---------------------------------------------------------------------------

    def start_resize(self) -> None:
        """Resize the selected file. The result is a temporary file."""
        row = self._row()
        if row is not None:
            path, output = self.entries[row].path, self._output(self.entries[row].path)
            rank = self.rank.value()
            self.state.setText(f"Resizing {path.name} to rank {rank} …")
            self._run(resize_arguments(path, rank, output), self._show_result)

    def start_merge(self, rank: int | None) -> None:
        """Merge all files. The result is a temporary file."""
        try:
            files = [
                (entry.path, float(self._text(row, _WEIGHT)))
                for row, entry in enumerate(self.entries)
            ]
        except ValueError:
            self.failed.emit(
                "The files cannot be merged.",
                "A weight is not a number. Use for example 0.7.",
            )
            return
        self.state.setText(f"Merging {len(files)} files …")
        output = self._output(*(path for path, _ in files))
        self._run(merge_arguments(files, rank, output), self._show_result)

    def start_convert(self) -> None:
        """Convert the selected file to the selected format."""
        row = self._row()
        if row is not None:
            path, to = self.entries[row].path, self.spelling.currentText()
            output = self._output(path, folder=to == "peft-folder")
            self.state.setText(f"Converting {path.name} to {to} …")
            self._run(convert_arguments(path, to, output), self._show_result)

    def start_verify(self) -> None:
        """Check whether other programs can load the selected file."""
        row = self._row()
        if row is not None:
            path = self.entries[row].path
            self.state.setText(f"Verifying {path.name} …")
            self._run(verify_arguments(path), self._show_checks)

    def start_extract(self, base: Path, tuned: Path) -> None:
        """Create a LoRA from the difference of two checkpoints."""
        self.state.setText(f"Extracting {tuned.name} minus {base.name} …")
        output = self._output(base, tuned)
        given = extract_arguments(base, tuned, self.rank.value(), output)
        self._run(given, self._show_result)

    def _choose_checkpoints(self) -> None:
        chosen = []
        for title in ("Checkpoint before the training", "Checkpoint after it"):
            path, _ = QFileDialog.getOpenFileName(self, title, "", _CHECKPOINTS)
            if not path:
                return
            chosen.append(Path(path))
        self.start_extract(*chosen)

    def _output(self, *inputs: Path, folder: bool = False) -> Path:
        self._made, self._inputs = None, list(inputs)
        path = Path(self._folder.name, "result.safetensors")
        path.unlink(missing_ok=True)
        shutil.rmtree(path.with_suffix(""), ignore_errors=True)
        self._target = path.with_suffix("") if folder else path
        return self._target

    def _show_result(self, text: str) -> None:
        result = Result.parse(text)
        self._made = self._target
        lines = [f"{result.summary()} Not saved yet.", *result.remarks]
        self.state.setText("\n".join([*lines, *result.checks]))

    def _show_checks(self, text: str) -> None:
        self.state.setText("\n".join(parse_checks(text)))

    def _save(self) -> None:
        chosen, _ = QFileDialog.getSaveFileName(self, "Save LoRA", "", _FILES)
        if chosen:
            self.save_to(Path(chosen))

    def save_to(self, path: Path) -> None:
        """Save the result to a file."""
        if self._made is None:
            return
        folder = self._made.is_dir()
        try:
            path = self._checked(path, folder=folder)
        except OutputError as error:
            self.failed.emit("The file cannot be saved.", str(error))
            return
        part = path.with_name(f".{path.name}.part")
        try:
            if folder:
                shutil.copytree(self._made, part)
            else:
                shutil.copyfile(self._made, part)
            part.replace(path)
        except OSError as error:
            _discard(part)
            self.failed.emit("The file cannot be saved.", f"{path}: {error.strerror}.")
            return
        self.state.setText(f"Saved {path}.")

    def _checked(self, path: Path, *, folder: bool) -> Path:
        """Append a missing suffix, and raise an error for an invalid file name.

        If the suffix was missing and the resulting file exists, an error is raised,
        because the dialog has only asked about the name without suffix.
        """
        if folder:
            return check_new_folder(path, self._inputs, "Save as").path
        return check_output(
            path,
            self._inputs,
            overwrite=with_suffix(path, option="Save as").path == path,
            option="Save as",
            advice="Choose another name, or add .safetensors to replace the file.",
        ).path

    # The process ---------------------------------------------------------------------

    def _run(self, arguments: list[str], done: Callable[[str], None]) -> None:
        self._verb, self._done = arguments[0], done
        self._process.start(command(*arguments))
        self._enable()

    def _ended(self, code: int, output: str, errors: str) -> None:
        if usable_output(self._verb, code, output):
            self._done(output)
        else:
            self.state.setText(_DROP)
            if self._verb == "inspect":
                self._unread.append(errors.strip())
            else:
                self.failed.emit("The command failed.", errors)
        self._enable()
        self._next_file()
        self._report_unread()

    def _report_unread(self) -> None:
        """Show the errors of all files that cannot be read, once none is left."""
        if self._unread and not self._waiting and not self._process.is_running:
            errors, self._unread = self._unread, []
            what = "A file" if len(errors) == 1 else f"{len(errors)} files"
            self.failed.emit(f"{what} cannot be read.", "\n".join(errors))

    def _enable(self) -> None:
        free, row = not self._process.is_running, self._row()
        self.remove.setEnabled(free and row is not None)
        chosen = self.entries[row : row + 1] if row is not None else []
        for button in (self.resize_, self.convert, self.verify):
            _allow(button, free and bool(chosen), chosen)
        self.extract.setEnabled(free)
        for button in (self.merge, self.merge_small):
            _allow(button, free and len(self.entries) > 1, self.entries)
        self.save.setEnabled(free and self._made is not None)

    def close_files(self) -> None:
        """Stop a running command and remove temporary files."""
        self._waiting.clear()
        self._process.stop()
        self._folder.cleanup()


def _allow(button: QPushButton, allowed: bool, entries: Sequence[LoraEntry]) -> None:
    """Enable a button if ``allowed`` is True and all values of the files are finite."""
    broken = [entry for entry in entries if entry.not_finite]
    button.setEnabled(allowed and not broken)
    usual = button.property("usual") or button.toolTip()
    button.setProperty("usual", usual)
    where = [f"{x.path.name}: NaN or infinity in {x.not_finite[0]}" for x in broken]
    button.setToolTip("\n".join(where) or usual)


def _table() -> QTableWidget:
    table = QTableWidget(0, len(COLUMNS))
    table.setHorizontalHeaderLabels(COLUMNS)
    table.verticalHeader().hide()
    table.setSelectionBehavior(QAbstractItemView.SelectionBehavior.SelectRows)
    table.setSelectionMode(QAbstractItemView.SelectionMode.SingleSelection)
    header = table.horizontalHeader()
    header.setSectionResizeMode(QHeaderView.ResizeMode.ResizeToContents)
    header.setSectionResizeMode(0, QHeaderView.ResizeMode.Stretch)
    return table


def _discard(part: Path) -> None:
    if part.is_dir():
        shutil.rmtree(part, ignore_errors=True)
    else:
        part.unlink(missing_ok=True)


def _dropped(event: QDropEvent) -> list[Path]:
    # Files of other kinds get an error message like any that cannot be read.
    return [Path(url.toLocalFile()) for url in event.mimeData().urls()]
