"""Gallery of sample images, newest first."""

from __future__ import annotations

from PySide6.QtCore import QSize, Qt, QUrl
from PySide6.QtGui import QDesktopServices, QIcon, QPixmap
from PySide6.QtWidgets import QListWidget, QListWidgetItem

from ..controllers.run_record import RunRecord

__all__ = ["Gallery"]

_PATH = Qt.ItemDataRole.UserRole
_SIDE = 132


class Gallery(QListWidget):
    """Thumbnails with step and prompt. A double click opens the image."""

    def __init__(self) -> None:
        super().__init__()
        self.setViewMode(QListWidget.ViewMode.IconMode)
        self.setResizeMode(QListWidget.ResizeMode.Adjust)
        self.setMovement(QListWidget.Movement.Static)
        self.setIconSize(QSize(_SIDE, _SIDE))
        self.setSpacing(6)
        self.setWordWrap(True)
        self.setAccessibleName("Sample images")
        self.itemActivated.connect(_open)
        self._shown: list[str] = []

    def show_record(self, record: RunRecord) -> None:
        """Show all sample images of a run if there are new ones."""
        rounds = sorted(record.rounds, key=lambda found: -found.step)
        paths = [str(path) for found in rounds for path in found.files]
        if paths == self._shown:
            return
        self._shown = paths
        prompts = [sample["prompt"] for sample in record.config.get("samples", ())]
        self.clear()
        for found in rounds:
            for index, path in enumerate(found.files):
                prompt = prompts[index] if index < len(prompts) else ""
                self._add(str(path), found.step, prompt)

    def _add(self, path: str, step: int, prompt: str) -> None:
        image = QPixmap(path)
        if image.isNull():
            return
        # Small images are scaled by integer factors, as in the sample sheets.
        side = max(image.width(), image.height())
        target = image.size() * max(1, _SIDE // side)
        if side > _SIDE:
            target = image.size().scaled(
                _SIDE, _SIDE, Qt.AspectRatioMode.KeepAspectRatio
            )
        icon = QIcon(
            image.scaled(target, mode=Qt.TransformationMode.SmoothTransformation)
        )
        item = QListWidgetItem(icon, f"step {step}\n{prompt[:60]}")
        item.setData(_PATH, path)
        item.setToolTip(f"{prompt}\n{path}")
        item.setSizeHint(QSize(_SIDE + 16, _SIDE + 58))
        item.setTextAlignment(Qt.AlignmentFlag.AlignHCenter)
        self.addItem(item)


def _open(item: QListWidgetItem) -> None:
    QDesktopServices.openUrl(QUrl.fromLocalFile(item.data(_PATH)))
