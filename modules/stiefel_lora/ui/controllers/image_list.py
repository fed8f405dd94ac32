"""List of the images of a folder: filter, search and number of images."""

from __future__ import annotations

from pathlib import Path

from ..._wording import counted
from .image_captions import Shelf
from .survey import Problem

__all__ = [
    "ALL",
    "BARE",
    "FILTERS",
    "NOTHING",
    "PROBLEMS",
    "READING",
    "count_of_images",
    "passes",
]

ALL, PROBLEMS, BARE = FILTERS = ("All images", "With problems", "Without caption")
NOTHING = (
    "Add an image folder on the left, or drop one here, to show its images and "
    "captions."
)
READING = "Reading the folder…"


def passes(
    path: Path, caption: str, problem: Problem | None, kind: str, words: str
) -> bool:
    """Return whether an image is shown.

    Args:
        path: path of the image.
        caption: its caption, or "".
        problem: problem of the image.
        kind: one of ``FILTERS``.
        words: text that must be in the name or caption.
    """
    if kind == BARE and caption:
        return False
    if kind == PROBLEMS and problem is None:
        return False
    return words.strip().casefold() in f"{path.name}\n{caption}".casefold()


def count_of_images(shelf: Shelf, shown: int, selected: int = 0) -> str:
    """Return the number of images as text.

    Args:
        shelf: images of the folder.
        shown: number of images that pass the filter.
        selected: number of selected images.
    """
    without = sum(not caption for caption in shelf.captions.values())
    count = len(shelf.captions)
    texts = [counted(count, "image", "images")]
    if without:
        texts.append(f"{without} without caption")
    if shown < count:
        texts.append(f"{shown} shown")
    if selected > 1:
        texts.append(f"{selected} selected")
    return ", ".join(texts) + "."
