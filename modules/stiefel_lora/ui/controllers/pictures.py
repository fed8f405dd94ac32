"""The pictures of a folder with their captions; only captions are ever written."""

from __future__ import annotations

import dataclasses
from pathlib import Path

from ..._exceptions import DataError
from ...config import Concept
from ...data.captions import read_caption
from ...data.folder import scan_with_problems
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
    # One bad caption must not hide the pictures.
    found = scan_with_problems([concept])
    captions = {picture.path: picture.caption for picture in found.images}
    return Shelf(captions, "\n".join(found.problems.values()), locked)


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
