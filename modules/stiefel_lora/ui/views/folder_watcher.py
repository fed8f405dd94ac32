"""Notification of changes in image folders."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from PySide6.QtCore import QFileSystemWatcher, QObject, Qt, QTimer, Signal

from .theme import application

__all__ = ["FolderWatcher"]

# Programs write several files at once, and each in several steps.
_SETTLE_MS = 400
# Systems limit the number of watches. Beyond this number of files, changed content is
# noticed when the window is activated; new and removed files are noticed at once.
_MOST_FILES = 2000


class FolderWatcher(QObject):
    """Watches folders and files. ``changed`` is emitted when changes have settled.

    It is also emitted when the user returns to the window, since network drives report
    no changes.
    """

    changed = Signal()

    def __init__(self, parent: QObject) -> None:
        super().__init__(parent)
        self._watcher = QFileSystemWatcher(self)
        self._timer = QTimer(self, singleShot=True, interval=_SETTLE_MS)
        self._timer.timeout.connect(self.changed)
        self._watcher.directoryChanged.connect(self._note)
        self._watcher.fileChanged.connect(self._note)
        application().applicationStateChanged.connect(self._activated)

    def watch(self, folders: Iterable[Path], files: Iterable[Path]) -> None:
        """Replace the watched folders and files.

        A folder that does not exist is noticed when it is created.
        """
        places = {_existing(folder) for folder in folders}
        wanted = {str(place) for place in places if place is not None}
        wanted |= {str(path) for path in [*files][:_MOST_FILES] if path.exists()}
        watched = {*self._watcher.files(), *self._watcher.directories()}
        if watched - wanted:
            self._watcher.removePaths([*(watched - wanted)])
        if wanted - watched:
            self._watcher.addPaths([*(wanted - watched)])

    def stop(self) -> None:
        """Stop watching."""
        self.watch((), ())
        self._timer.stop()

    def _note(self, _path: str) -> None:
        self._timer.start()

    def _activated(self, state: Qt.ApplicationState) -> None:
        watched = self._watcher.directories()
        if state == Qt.ApplicationState.ApplicationActive and watched:
            self._timer.start()


def _existing(folder: Path) -> Path | None:
    return next((place for place in (folder, folder.parent) if place.is_dir()), None)
