"""Subfolders with repeats and a caption in their names, such as ``10_cat``.

They are those of kohya's sd-scripts: the number in front of the first underscore is the
number of repeats, and the rest is the caption of images without one.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from .._exceptions import DataError
from .._wording import counted
from .walking import walk

if TYPE_CHECKING:
    from ..config import Concept

__all__ = [
    "describe_folder",
    "has_repeats",
    "no_numbered_folder",
    "numbered_folders",
    "numbered_remarks",
]

# The same limit as that of repeats: a date such as 20250131 is no number of repeats.
_MOST = 10_000


def numbered_folders(parent: Concept) -> tuple[list[Concept], list[tuple[str, str]]]:
    """Return a concept for each subfolder with repeats, sorted by name.

    Links to folders are used, too.

    Returns:
        The concepts, and the names of other subfolders with the reasons for skipping
        them.

    Raises:
        DataError: If the folder is missing or cannot be read, or a number is too large.
    """
    concepts: list[Concept] = []
    skipped: list[tuple[str, str]] = []
    for path, reason in walk(parent.path, deep=False):
        if not path.is_dir():
            continue
        repeats, caption = _parts_of(path.name)
        if reason:
            skipped.append((path.name, "hidden"))
        elif repeats is None:
            skipped.append((path.name, "no number and _ at the beginning"))
        elif repeats < 1:
            skipped.append((path.name, f"{repeats} repeats"))
        elif repeats > _MOST:
            raise DataError(
                f"The name of the folder {path} stands for {repeats:,} repeats, but at "
                f"most {_MOST:,} are supported. Rename the folder."
            )
        else:
            text = caption if parent.default_caption is None else parent.default_caption
            own = {"path": path, "repeats": repeats, "default_caption": text}
            concepts.append(parent.model_copy(update=own))
    return concepts, skipped


def has_repeats(name: str) -> bool:
    """Return whether a name has a number of repeats and a caption.

    >>> has_repeats("10_cat"), has_repeats("2024"), has_repeats("cat_2")
    (True, False, False)
    """
    repeats, caption = _parts_of(name)
    return bool(caption) and repeats is not None and 1 <= repeats <= _MOST


def _parts_of(name: str) -> tuple[int | None, str]:
    """Return the number of repeats and the caption of a name such as ``10_cat``.

    >>> _parts_of("10_sks dog"), _parts_of("cat_2"), _parts_of("3")
    ((10, 'sks dog'), (None, ''), (3, ''))
    """
    number, _, caption = name.partition("_")
    try:
        return int(number), caption.strip()
    except ValueError:
        return None, ""


def describe_folder(concept: Concept, images: int, bare: int) -> str:
    """Describe a subfolder: its repeats, images, and those without a caption."""
    texts = [
        counted(concept.repeats, "repeat", "repeats"),
        counted(images, "image", "images"),
    ]
    if bare:
        caption = repr(concept.default_caption) if concept.default_caption else "none"
        texts.append(f"caption of {bare} of them: {caption}")
    return f"{concept.path.name} ({', '.join(texts)})"


def numbered_remarks(
    folder: Path, used: Sequence[str], skipped: Sequence[tuple[str, str]], loose: int
) -> Iterator[str]:
    """Return messages about the subfolders that are used and those that are not.

    Args:
        folder: folder that contains them.
        used: descriptions of subfolders that are used.
        skipped: names of subfolders that are not used, with the reasons.
        loose: number of images that are not in a subfolder.
    """
    yield f"{folder}: subfolders with repeats: {', '.join(used)}."
    others = [f"{name} ({reason})" for name, reason in skipped]
    if loose:
        one, many = "image that is", "images that are"
        others.append(f"{counted(loose, one, many)} not in a subfolder")
    if others:
        yield f"{folder}: skipped because of subfolder_repeats: {', '.join(others)}."


def no_numbered_folder(folder: Path, loose: bool) -> str:
    """Return the error about a folder without subfolders that can be used."""
    if loose and _parts_of(folder.name)[0] is not None:
        fix = f"Use its parent folder, {folder.parent}, or disable subfolder_repeats"
    else:
        fix = "Rename its subfolders, or disable subfolder_repeats"
    return (
        f"The folder {folder} contains no subfolder with images and a name such as "
        f"10_cat. {fix}."
    )
