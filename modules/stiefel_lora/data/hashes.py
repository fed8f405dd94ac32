"""Hashes of file contents, cached by path, size and modification time.

They are stored in ``hashes.jsonl`` in the cache folder, with a line for each file. The
last line of a path is valid.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import time
from pathlib import Path

from .unreadable import UnreadableImage

__all__ = ["ContentHashes", "sha256"]

# A file changed this recently may change again within one tick of the file system's
# clock, so its hash is not cached.
_SETTLED_NS = 2_000_000_000


class ContentHashes:
    """SHA-256 hashes of files. A file is only read again if it has changed."""

    def __init__(self, folder: Path) -> None:
        self._file = folder / "hashes.jsonl"
        self._known = self._load()

    def of(self, path: Path) -> str:
        """Return the hash of a file.

        Raises:
            UnreadableImage: If the file cannot be read.
        """
        try:
            state = path.stat()
            stamp = (state.st_size, state.st_mtime_ns)
            known = self._known.get(str(path))
            if known is not None and known[:2] == stamp:
                return known[2]
            digest = sha256(path)
        except OSError as error:
            raise UnreadableImage(error.strerror or str(error)) from error
        # The stamp was taken before hashing: a file that changes meanwhile is hashed
        # again.
        if time.time_ns() - state.st_mtime_ns > _SETTLED_NS:
            self._remember(str(path), (*stamp, digest))
        return digest

    def _remember(self, path: str, entry: tuple[int, int, str]) -> None:
        self._known[path] = entry
        # If it cannot be written, the next run is only slower.
        with contextlib.suppress(OSError):
            self._file.parent.mkdir(parents=True, exist_ok=True)
            with self._file.open("a", encoding="utf-8") as file:
                file.write(json.dumps([path, *entry]) + "\n")

    def _load(self) -> dict[str, tuple[int, int, str]]:
        known: dict[str, tuple[int, int, str]] = {}
        with contextlib.suppress(OSError), self._file.open(encoding="utf-8") as file:
            for line in file:
                # The last line of a killed process may be incomplete.
                with contextlib.suppress(ValueError, TypeError):
                    path, size, changed, digest = json.loads(line)
                    known[path] = (size, changed, digest)
        return known


def sha256(path: Path) -> str:
    """Compute the hash of a file."""
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while block := file.read(1 << 20):
            digest.update(block)
    return digest.hexdigest()
