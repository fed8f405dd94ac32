"""Folders with training images that the server shows."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from pathlib import Path
from urllib.parse import quote

__all__ = ["DatasetRoots", "name_of_folder"]


def name_of_folder(folder: Path) -> str:
    """Return the name of a folder in URLs, 16 hexadecimal digits."""
    return hashlib.sha256(str(folder).encode("utf-8", "surrogatepass")).hexdigest()[:16]


class DatasetRoots:
    """Folders below which images are served, and nothing else.

    Args:
        folders: folders, which do not have to exist.
    """

    def __init__(self, folders: Iterable[Path]) -> None:
        self.folders: list[Path] = []
        for folder in folders:
            self.add(folder)

    def add(self, folder: Path) -> None:
        """Add a folder, with its symbolic links resolved."""
        folder = folder.expanduser().resolve()
        if folder not in self.folders:
            self.folders.append(folder)

    def find(self, name: str) -> Path | None:
        """Return the folder with a name in URLs."""
        found = [folder for folder in self.folders if name_of_folder(folder) == name]
        return found[0] if found else None

    def root_of(self, path: Path) -> Path | None:
        """Return the folder that contains a file or folder, or None."""
        found = [folder for folder in self.folders if path.is_relative_to(folder)]
        return found[0] if found else None

    def contains(self, path: Path) -> bool:
        """Return whether images of a folder are shown."""
        return self.root_of(path) is not None

    def url_of(self, path: Path, side: int = 256) -> str | None:
        """Return the URL of an image, or None if it is outside of the folders.

        Args:
            path: absolute path of the image.
            side: length of the longer edge in pixels to which it is reduced.
        """
        root = self.root_of(path)
        if root is None:
            return None
        place = quote(path.relative_to(root).as_posix())
        return f"/images/{name_of_folder(root)}/{place}?side={side}"

    def children(self, path: Path) -> list[Path]:
        """Return the subfolders of a folder, for a folder chooser."""
        if not self.contains(path):
            return []
        try:
            found = [
                entry
                for entry in path.iterdir()
                if not entry.name.startswith(".")
                and not entry.is_symlink()
                and entry.is_dir()
            ]
        except OSError:
            return []
        return sorted(found)
