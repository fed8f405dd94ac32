"""Folders with training images that the server shows."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterable
from pathlib import Path
from urllib.parse import quote

from ...config import Concept

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

    def contains(self, path: Path) -> bool:
        """Return whether images of a folder are shown."""
        return self._place_of(path) is not None

    def serves(self, concept: Concept) -> bool:
        """Return whether images and captions of a concept are shown."""
        files = [path for path in (concept.path, concept.prompt_path) if path]
        return all(map(self.contains, files))

    def url_of(self, path: Path, side: int = 256) -> str | None:
        """Return the URL of an image, or None if it is outside of the folders.

        Args:
            path: absolute path of the image.
            side: length of the longer edge in pixels to which it is reduced.
        """
        found = self._place_of(path)
        if found is None:
            return None
        root, place = found
        return f"/images/{name_of_folder(root)}/{quote(place.as_posix())}?side={side}"

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

    def _place_of(self, path: Path) -> tuple[Path, Path] | None:
        """Return the folder that contains a path, and the place of the path in it."""
        # "..", and links that lead elsewhere, are resolved first.
        real = Path(os.path.realpath(path))
        for folder in self.folders:
            if real.is_relative_to(folder):
                return folder, real.relative_to(folder)
        return None
