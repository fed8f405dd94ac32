"""The pictures of a folder with their captions; only captions are ever written."""

from __future__ import annotations

import dataclasses
from pathlib import Path

from ..._exceptions import DataError
from ...data.captions import read_caption
from ...data.folder import PICTURE_SUFFIXES
from ...files.atomic import atomic_write

__all__ = ["Shelf", "caption_of", "open_shelf", "write_caption"]


@dataclasses.dataclass(frozen=True)
class Shelf:
    """Picture files of a folder, by name, and why there are none."""

    paths: tuple[Path, ...] = ()
    message: str = ""


def open_shelf(folder: Path) -> Shelf:
    """List the pictures of a folder, without opening them."""
    try:
        names = sorted(folder.iterdir(), key=lambda path: path.name)
    except OSError as error:
        return Shelf(message=f"{folder} can not be read ({error.strerror}).")
    found = tuple(p for p in names if p.suffix.lower() in PICTURE_SUFFIXES)
    return Shelf(found, "" if found else f"{folder} has no pictures.")


def caption_of(picture: Path) -> tuple[str | None, str]:
    """Text of a caption, None where there is no file; and what is wrong with it."""
    try:
        return read_caption(picture), ""
    except DataError as error:
        return None, str(error)


def write_caption(picture: Path, text: str) -> bool:
    """Write the caption file of a picture if its text changed; whether it did.

    Raises:
        OutputError: the file can not be written; what stood there is untouched.
    """
    before, _ = caption_of(picture)
    after = text.strip()
    if after == (before or ""):
        return False
    with atomic_write(picture.with_suffix(".txt")) as part:
        part.write_text(after + "\n", encoding="utf-8", newline="\n")
    return True
