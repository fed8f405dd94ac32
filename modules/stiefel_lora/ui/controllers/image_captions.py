"""Images of a folder with their captions, which can be edited."""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Iterable
from pathlib import Path

from ..._exceptions import DataError, OutputError
from ...config import Concept
from ...config.caption_extension import TEXT
from ...data.captions import read_caption
from ...data.folder import CaptionedImage, scan_with_problems
from ...data.walking import walk
from ...files.atomic import atomic_write

__all__ = [
    "Shelf",
    "caption_of",
    "image_in_training",
    "keep_other",
    "open_shelf",
    "places_of",
]

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
        stamps: sizes and modification times of the images, to find changed files.
        unreadable: images whose captions cannot be read.
        images: images with all captions and their concept.
        defaulted: images without a caption that get the default caption.
    """

    captions: dict[Path, str] = dataclasses.field(default_factory=dict)
    message: str = ""
    locked: str = ""
    stamps: dict[Path, tuple[int, int]] = dataclasses.field(default_factory=dict)
    unreadable: frozenset[Path] = frozenset()
    images: dict[Path, CaptionedImage] = dataclasses.field(default_factory=dict)
    defaulted: frozenset[Path] = frozenset()


def open_shelf(concept: Concept) -> Shelf:
    """List the images of a concept without opening them, also if it is disabled."""
    locked = _SOURCES.get(concept.prompt_source, "")
    # One bad caption must not hide the images.
    found = scan_with_problems([concept.model_copy(update={"enabled": True})])
    # The default caption is not in a file, so it cannot be edited.
    captions = {
        image.path: "" if image.path in found.defaulted else image.caption
        for image in found.images
    }
    stamps = {path: _stamp(path) for path in captions}
    unreadable = frozenset(captions) & frozenset(found.problems)
    message = "\n".join(found.problems.values())
    images = {image.path: image for image in found.images}
    return Shelf(captions, message, locked, stamps, unreadable, images, found.defaulted)


def image_in_training(shelf: Shelf, path: Path) -> CaptionedImage | None:
    """Return an image with the caption that training would read now.

    Args:
        shelf: images of a folder, with captions that may have been edited.
        path: path of the image.
    """
    image = shelf.images.get(path)
    if image is None or shelf.locked:
        return image
    caption = shelf.captions[path]
    if not caption and path in shelf.defaulted:
        return image
    return dataclasses.replace(image, captions=(caption,))


def places_of(concepts: Iterable[Concept]) -> list[Path]:
    """Return the folders of concepts, with the subfolders that are searched."""
    found: list[Path] = []
    for concept in concepts:
        found.append(concept.path)
        if concept.include_subdirectories or concept.subfolder_repeats:
            try:
                names = walk(concept.path, deep=concept.include_subdirectories)
            except DataError:
                continue
            found += [path for path, reason in names if not reason and path.is_dir()]
    return found


def caption_of(image: Path, extension: str = TEXT) -> tuple[str | None, str]:
    """Read a caption file. Return the text (None if missing) and an error message."""
    try:
        return read_caption(image, extension=extension), ""
    except DataError as error:
        return None, str(error)


def keep_other(image: Path, extension: str = TEXT) -> None:
    """Copy the caption file of an image, if there is one, to a ``.bak`` file.

    Raises:
        OutputError: If the file cannot be copied.
    """
    path = image.with_suffix(extension)
    try:
        content = path.read_bytes()
    except FileNotFoundError:
        return
    except OSError as error:
        raise OutputError(f"{path} cannot be read: {error.strerror}.") from error
    with atomic_write(path.with_name(f"{path.name}.bak")) as part:
        part.write_bytes(content)


def _stamp(path: Path) -> tuple[int, int]:
    try:
        found = os.stat(path)
    except OSError:
        return -1, -1
    return found.st_size, found.st_mtime_ns
