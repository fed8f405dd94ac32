"""Captions for all images of a folder."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

from ..config import Concept
from ..config.caption_extension import TEXT
from ..data.caption_files import write_caption
from ..data.folder import refuse, scan_with_problems
from ..data.image_crop import whole_image
from ..data.unreadable import UnreadableImage

if TYPE_CHECKING:
    from .captioner import Captioner

__all__ = ["Captioned", "caption_folder"]

Report = Callable[[int, int, Path, str], None]
"""Function that is called with number, count, image and caption of each new caption."""


@dataclasses.dataclass(frozen=True)
class Captioned:
    """Result of :func:`caption_folder`."""

    written: int
    """Number of captions that were written."""

    kept: int
    """Number of images that had a caption, which was kept."""

    without: dict[Path, str]
    """Images that got no caption, with the reasons."""

    remarks: tuple[str, ...] = ()
    """Messages about files that are not used or cannot be read."""


def caption_folder(
    folder: Path,
    captioner: Captioner,
    *,
    overwrite: bool = False,
    include_subdirectories: bool = False,
    extension: str = TEXT,
    report: Report = lambda *_: None,
) -> Captioned:
    """Write a caption file for each image of a folder.

    Captions that exist are kept, also those in ``metadata.jsonl``. Each caption is
    written at once, so that an interruption loses none.

    Args:
        folder: folder with images.
        captioner: the model.
        overwrite: whether to replace existing captions.
        include_subdirectories: whether to include subfolders.
        extension: extension of caption files.
        report: function that is called after each caption.

    Raises:
        DataError: If the folder is missing or contains no images.
        OutputError: If a caption cannot be written.
    """
    concept = Concept(
        path=folder.resolve(),
        include_subdirectories=include_subdirectories,
        caption_extension=extension,
    )
    extension = concept.caption_extension
    found = scan_with_problems([concept])
    if not found.images:
        refuse(found.problems)
    bare = set(found.uncaptioned)
    # A caption that cannot be read is not replaced: it would be lost.
    without = {
        image.path: found.problems[image.path]
        for image in found.images
        if image.path in found.problems
    }
    wanted = [
        image.path
        for image in found.images
        if image.path not in without
        and (overwrite or image.path in bare or not image.caption)
    ]
    kept = len(found.images) - len(wanted) - len(without)
    taken: dict[Path, Path] = {}
    written = 0
    for number, path in enumerate(wanted, start=1):
        file = path.with_suffix(extension)
        if file in taken:
            without[path] = f"{file.name} is the caption of {taken[file].name}"
            continue
        try:
            text = captioner.caption(whole_image(path))
        except UnreadableImage as error:
            without[path] = str(error)
            continue
        if not text:
            without[path] = "the model recognized nothing"
            continue
        write_caption(path, text, extension)
        taken[file] = path
        written += 1
        report(number, len(wanted), path, text)
    of_files = [text for path, text in found.problems.items() if path not in without]
    return Captioned(written, kept, without, (*of_files, *found.remarks))
