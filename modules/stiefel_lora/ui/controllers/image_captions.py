"""Images of a folder with their captions, which can be edited."""

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
    "concept": "Captions are read from the file prompt_path.",
    "filename": "Captions are the image file names.",
}


@dataclasses.dataclass(frozen=True)
class Shelf:
    """Images of a concept.

    Attributes:
        captions: captions of the images, or "" if there is none.
        message: error message about the folder, or "".
        locked: reason why captions cannot be edited, or "".
    """

    captions: dict[Path, str] = dataclasses.field(default_factory=dict)
    message: str = ""
    locked: str = ""


def open_shelf(concept: Concept) -> Shelf:
    """List the images of a concept without opening them."""
    locked = _SOURCES.get(concept.prompt_source, "")
    # One bad caption must not hide the images.
    found = scan_with_problems([concept])
    captions = {image.path: image.caption for image in found.images}
    return Shelf(captions, "\n".join(found.problems.values()), locked)


def caption_of(image: Path) -> tuple[str | None, str]:
    """Read a caption file. Return the text (None if missing) and an error message."""
    try:
        return read_caption(image), ""
    except DataError as error:
        return None, str(error)


def write_caption(image: Path, text: str) -> bool:
    """Write the caption file of an image. Return whether the text has changed.

    Raises:
        OutputError: If the file cannot be written. An existing file is not changed.
    """
    before, _ = caption_of(image)
    after = text.strip()
    if after == (before or ""):
        return False
    with atomic_write(image.with_suffix(".txt")) as part:
        part.write_text(after + "\n", encoding="utf-8", newline="\n")
    return True
