"""Detection of truncated and corrupt images by decoding them in threads.

The header of such a file is often intact. Files are decoded by the code of training, so
that the images that training skips are reported, and no others.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from .buckets import Size
from .image_crop import check_decoding
from .unreadable import UnreadableImage

__all__ = ["DecodeCheck"]

# Decoders of Pillow release the lock of Python. Each thread may hold a large image, and
# a core is left for the window.
_MOST_THREADS = 4

_Version = tuple[int, int]


class DecodeCheck:
    """Decodes images and keeps the results until the files change."""

    def __init__(self) -> None:
        self._found: dict[Path, tuple[_Version, Size, str]] = {}

    def check(
        self,
        sizes: Mapping[Path, Size],
        tick: Callable[[], None] = lambda: None,
        stopped: Callable[[], bool] = lambda: False,
    ) -> dict[Path, str]:
        """Decode images that are new or have changed.

        Args:
            sizes: upright width and height by path, according to the headers.
            tick: function that is called after each image, in the calling thread.
            stopped: function that returns True to skip the remaining images.

        Returns:
            The reasons why images cannot be decoded.
        """
        todo = [item for item in sizes.items() if self._known(*item) is None]
        stop = threading.Event()

        def look(item: tuple[Path, Size]) -> None:
            if not stop.is_set():
                self._decode(*item)

        count = max(1, min(_MOST_THREADS, (os.cpu_count() or 1) - 1))
        with ThreadPoolExecutor(count) as threads:
            try:
                for _ in threads.map(look, todo):
                    tick()
                    if stopped():
                        break
            finally:
                # Also after Ctrl-C: the images that wait are not decoded.
                stop.set()
        return self.known(sizes)

    def known(self, sizes: Mapping[Path, Size]) -> dict[Path, str]:
        """Return the reasons that are known, without decoding."""
        found = {path: self._known(path, size) for path, size in sizes.items()}
        return {path: reason for path, reason in found.items() if reason}

    def unknown(self, sizes: Mapping[Path, Size]) -> int:
        """Return the number of images without a result."""
        return sum(self._known(path, size) is None for path, size in sizes.items())

    def _decode(self, path: Path, size: Size) -> None:
        # Before decoding, so that a file that changes meanwhile is decoded again.
        version = _version(path)
        try:
            check_decoding(path, size)
        except UnreadableImage as error:
            reason = str(error)
        else:
            reason = ""
        self._found[path] = version, size, reason

    def _known(self, path: Path, size: Size) -> str | None:
        kept = self._found.get(path)
        if kept is None or kept[:2] != (_version(path), size):
            return None
        return kept[2]


def _version(path: Path) -> _Version:
    """Return the size and modification time, or -1 if the file was removed."""
    try:
        found = os.stat(path)
    except OSError:
        return -1, -1
    return found.st_size, found.st_mtime_ns
