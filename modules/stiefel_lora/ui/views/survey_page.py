"""Page with a histogram of buckets and a list of problems."""

from __future__ import annotations

import functools
from pathlib import Path

from PySide6.QtCore import Qt, QTimer, Signal
from PySide6.QtGui import QImage
from PySide6.QtWidgets import (
    QHeaderView,
    QLabel,
    QListWidget,
    QListWidgetItem,
    QProgressBar,
    QSplitter,
    QTableWidget,
    QTableWidgetItem,
    QVBoxLayout,
    QWidget,
)

from ...config import TrainConfig
from ...data.decode_check import DecodeCheck
from ..controllers.survey import Survey, survey
from ..controllers.training_preview import TrainedImage
from .image_loading import Loaded, load_crop
from .thumbnails import SIDE, ThumbnailModel, thumbnail_view
from .worker_thread import Background

__all__ = ["SurveyPage"]

_PROGRESS_MS = 500
_HEADINGS = ("Size", "Images", "")
_PATH = Qt.ItemDataRole.UserRole
# Maximum number of problems in the list.
_MOST_PROBLEMS = 1000


class SurveyPage(QWidget):
    """Page with the survey. ``chosen`` emits the image of a clicked problem."""

    chosen = Signal(Path)
    surveyed = Signal(object)

    def __init__(self) -> None:
        super().__init__()
        self.summary = QLabel()
        self.summary.setWordWrap(True)
        self.table = QTableWidget(0, len(_HEADINGS))
        self.table.setHorizontalHeaderLabels(_HEADINGS)
        self.table.verticalHeader().hide()
        self.table.setAccessibleName("Buckets")
        self.table.setTabKeyNavigation(False)
        self.table.setEditTriggers(QTableWidget.EditTrigger.NoEditTriggers)
        header = self.table.horizontalHeader()
        header.setSectionResizeMode(QHeaderView.ResizeMode.ResizeToContents)
        header.setSectionResizeMode(2, QHeaderView.ResizeMode.Stretch)
        self.problems = QListWidget()
        self.problems.setAccessibleName("Problems")
        self.problems.itemActivated.connect(self._choose)
        self.problems.itemClicked.connect(self._choose)
        self.table.setSelectionBehavior(QTableWidget.SelectionBehavior.SelectRows)
        self.table.setSelectionMode(QTableWidget.SelectionMode.SingleSelection)
        self.table.currentCellChanged.connect(self._show_crops)
        self.crops = ThumbnailModel(self, self._load_crop)
        self.crop_view = thumbnail_view(self.crops)
        self.crop_view.setAccessibleName("Crops of the images in this bucket")
        self.crop_view.activated.connect(
            lambda index: self.chosen.emit(self.crops.paths[index.row()])
        )
        self._sizes: list[tuple[int, int]] = []
        self._images: dict[Path, TrainedImage] = {}
        above = QSplitter(Qt.Orientation.Horizontal)
        above.addWidget(self.table)
        above.addWidget(self.crop_view)
        above.setSizes([300, 400])
        both = QSplitter(Qt.Orientation.Vertical)
        both.addWidget(above)
        both.addWidget(self.problems)
        both.setSizes([400, 160])
        column = QVBoxLayout(self)
        column.addWidget(self.summary)
        column.addWidget(both, 1)
        self._thread = Background(self)
        self._thread.done.connect(self._arrived)
        self._turn = 0
        self._found = Survey()
        self._check = DecodeCheck()
        self._decoded = self._total = 0
        self._config: TrainConfig | None = None
        self._progress = QTimer(self, interval=_PROGRESS_MS)
        self._progress.timeout.connect(self._show_summary)

    def look(self, config: TrainConfig) -> None:
        """Start a survey of the images in a thread. An earlier survey is stopped.

        A first survey only reads headers. If there are images that have not been
        decoded yet, a second one decodes them.
        """
        self._turn += 1
        self._config = config
        self._progress.stop()
        self.summary.setText("Scanning images…")
        self._thread.start_instead(
            self._turn, functools.partial(survey, config, self._check)
        )

    def finish(self) -> None:
        """Stop the thread."""
        self._turn += 1
        self._progress.stop()
        self._thread.finish()
        self.crops.wait()

    def _arrived(self, turn: int, found: Survey) -> None:
        if turn != self._turn:
            return
        self._found = found
        if found.undecoded:
            self._decode(turn)
        else:
            self._progress.stop()
        self._show_summary()
        self._show_buckets(found)
        self.problems.clear()
        for problem in found.problems[:_MOST_PROBLEMS]:
            item = QListWidgetItem(f"{problem.path.name}: {problem.message}")
            item.setToolTip(str(problem.path))
            item.setData(_PATH, str(problem.path))
            self.problems.addItem(item)
        rest = len(found.problems) - _MOST_PROBLEMS
        if rest > 0:
            self.problems.addItem(f"and {rest} more")
        self.surveyed.emit(found)

    def _decode(self, turn: int) -> None:
        """Start a survey that decodes the images, until there is another survey."""
        assert self._config is not None
        self._decoded, self._total = 0, self._found.undecoded

        def tick() -> None:
            self._decoded += 1

        def stopped() -> bool:
            return turn != self._turn

        work = functools.partial(survey, self._config, self._check, tick, stopped)
        self._thread.start_instead(turn, work)
        self._progress.start()

    def _show_summary(self) -> None:
        lines = [self._found.summary]
        if self._found.undecoded:
            lines.append(
                f"Decoding images to find truncated files: {self._decoded} of "
                f"{self._total}."
            )
        self.summary.setText("\n".join(lines))

    def _show_buckets(self, found: Survey) -> None:
        most = max(found.buckets.values(), default=1)
        rows = sorted(found.buckets.items(), key=lambda item: item[0][0] / item[0][1])
        place = self.table.currentRow()
        chosen = self._sizes[place] if 0 <= place < len(self._sizes) else None
        self._sizes = [size for size, _ in rows]
        self.table.blockSignals(True)
        self.table.setRowCount(len(rows))
        for row, ((width, height), count) in enumerate(rows):
            self.table.setItem(row, 0, QTableWidgetItem(f"{width} x {height}"))
            number = QTableWidgetItem(str(count))
            number.setTextAlignment(
                Qt.AlignmentFlag.AlignRight | Qt.AlignmentFlag.AlignVCenter
            )
            self.table.setItem(row, 1, number)
            bar = QProgressBar()
            bar.setTextVisible(False)
            bar.setRange(0, most)
            bar.setValue(count)
            self.table.setCellWidget(row, 2, bar)
        row = self._sizes.index(chosen) if chosen in self._sizes else 0
        self.table.setCurrentCell(row if rows else -1, 0)
        self.table.blockSignals(False)
        # The crops may have changed, also in a bucket that is shown already.
        self.crops.forget_all()
        self._show_crops(self.table.currentRow())

    def _show_crops(self, row: int, *_: int) -> None:
        """Show the crops of the images in a bucket."""
        size = self._sizes[row] if 0 <= row < len(self._sizes) else (0, 0)
        shown = self._found.images.get(size, [])
        self._images = {image.entry.image.path: image for image in shown}
        self.crops.show_paths(list(self._images))

    def _load_crop(self, path: Path) -> Loaded:
        # The bucket may have been left since the thumbnail was asked for.
        image = self._images.get(path)
        if image is None:
            return Loaded(QImage(), "")
        return load_crop(functools.partial(image.crop, 0), SIDE)

    def _choose(self, item: QListWidgetItem) -> None:
        path = item.data(_PATH)
        if path:
            self.chosen.emit(Path(path))
