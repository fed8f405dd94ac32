"""The pictures of a folder with their captions; only captions are ever written."""

from __future__ import annotations

import dataclasses
from pathlib import Path

from ..._exceptions import DataError
from ...config import Concept
from ...data import scan_concepts
from ...data.captions import read_caption
from ...data.folder import MASK_ENDING, PICTURE_SUFFIXES
from ...files.atomic import atomic_write

__all__ = ["Shelf", "caption_of", "open_shelf", "write_caption"]

_SOURCES = {
    "concept": "Captions come from the file that prompt_path names.",
    "filename": "Captions are the names of the pictures.",
}


@dataclasses.dataclass(frozen=True)
class Shelf:
    """Pictures of a concept, as training finds them.

    Attributes:
        captions: text by picture, "" where there is none.
        message: what is wrong with the folder; "" when all is well.
        locked: why captions can not be edited here; "" when they can.
    """

    captions: dict[Path, str] = dataclasses.field(default_factory=dict)
    message: str = ""
    locked: str = ""


def open_shelf(concept: Concept) -> Shelf:
    """List the pictures of a concept, without opening them."""
    locked = _SOURCES.get(concept.prompt_source, "")
    try:
        found = scan_concepts([concept]).pictures
    except DataError as error:
        # One bad caption must not hide the pictures.
        paths = _files(concept.path, concept.include_subdirectories)
        captions = {path: caption_of(path)[0] or "" for path in paths}
        return Shelf(captions, str(error), locked)
    captions = {picture.path: picture.caption for picture in found}
    return Shelf(captions, locked=locked)


def caption_of(picture: Path) -> tuple[str | None, str]:
    """Text of a caption file, None where there is none; and what is wrong with it."""
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


def _files(folder: Path, deep: bool) -> list[Path]:
    try:
        names = sorted(folder.rglob("*") if deep else folder.iterdir())
    except OSError:
        return []
    return [
        path
        for path in names
        if path.suffix.lower() in PICTURE_SUFFIXES
        and not path.name.endswith(MASK_ENDING)
    ]
