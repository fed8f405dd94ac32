"""Selection of images in a list, as in file managers."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

__all__ = ["ImageSelection"]


class ImageSelection:
    """Selected images, and the one from which a range is selected."""

    def __init__(self) -> None:
        self._paths: set[Path] = set()
        self._first: Path | None = None

    def select(
        self,
        path: Path,
        shown: Sequence[Path],
        *,
        adds: bool = False,
        extends: bool = False,
    ) -> None:
        """Select an image.

        Args:
            path: the image.
            shown: images of the list, in their order.
            adds: whether the others stay selected (Ctrl). A selected image is then no
                longer selected.
            extends: whether all images from the one before are selected (Shift).
        """
        if extends and self._first in shown and path in shown:
            ends = sorted((shown.index(self._first), shown.index(path)))
            found = set(shown[ends[0] : ends[1] + 1])
            self._paths = self._paths | found if adds else found
            return
        self._first = path
        self._paths = self._paths ^ {path} if adds else {path}

    def among(self, shown: Sequence[Path]) -> list[Path]:
        """Return the selected images of a list, in its order."""
        return [path for path in shown if path in self._paths]
