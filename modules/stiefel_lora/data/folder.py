"""Find pictures and their captions in concept folders; nothing is decoded."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING

from .._exceptions import DataError
from .captions import captions_of

if TYPE_CHECKING:
    from ..config import Concept

__all__ = ["MASK_ENDING", "PICTURE_SUFFIXES", "Picture", "Scan", "scan_concepts"]

PICTURE_SUFFIXES = frozenset({".jpg", ".jpeg", ".png", ".webp", ".bmp", ".avif"})
MASK_ENDING = "-masklabel.png"
"""What OneTrainer's masks end in: cat-masklabel.png belongs to cat.jpg."""


@dataclasses.dataclass(frozen=True)
class Picture:
    """One picture file with its captions."""

    path: Path
    captions: tuple[str, ...]
    """They come up in turns; one empty text where none was given."""

    concept: Concept
    """The folder that it is of, and how much it counts and varies."""

    @property
    def caption(self) -> str:
        """The first caption."""
        return self.captions[0]

    @property
    def mask(self) -> Path:
        """Where its mask would be."""
        return self.path.with_name(self.path.stem + MASK_ENDING)


@dataclasses.dataclass(frozen=True)
class Scan:
    """All pictures of some concepts, by folder as given, then by path."""

    pictures: tuple[Picture, ...]
    uncaptioned: tuple[Path, ...]
    """Pictures without a caption."""

    @property
    def without_caption(self) -> int:
        """How many pictures have no caption."""
        return len(self.uncaptioned)


def scan_concepts(concepts: Iterable[Concept]) -> Scan:
    """List the pictures of every folder; files are not decoded here.

    Raises:
        DataError: a folder is missing or has no picture, or a caption is not UTF-8.
    """
    pictures: list[Picture] = []
    missing: list[Path] = []
    for concept in concepts:
        paths = _picture_files(concept.path, concept.include_subdirectories)
        for path, captions in zip(paths, captions_of(paths, concept), strict=True):
            if captions is None:
                missing.append(path)
            pictures.append(Picture(path, captions or ("",), concept))
    return Scan(tuple(pictures), tuple(missing))


def _picture_files(folder: Path, deep: bool) -> list[Path]:
    names = _names_in(folder, deep)
    found = [path for path in names if _is_picture(path)]
    if found:
        return found
    inside = [path for path in names if path.is_dir()]
    hint = (
        f"folders inside it are not searched, so set include_subdirectories or name "
        f"them one by one ({inside[0]})"
        if inside and not deep
        else "put pictures (" + ", ".join(sorted(PICTURE_SUFFIXES)) + ") into it"
    )
    raise DataError(f"The folder {folder} has no pictures; {hint}.")


def _is_picture(path: Path) -> bool:
    is_one = path.suffix.lower() in PICTURE_SUFFIXES and path.is_file()
    return is_one and not path.name.endswith(MASK_ENDING)


def _names_in(folder: Path, deep: bool) -> list[Path]:
    try:
        # iterdir finds out about a missing folder; rglob would say nothing.
        names = sorted(folder.iterdir(), key=lambda path: path.name)
        return sorted(folder.rglob("*")) if deep else names
    except FileNotFoundError:
        raise DataError(
            f"There is no picture folder {folder}; correct the path in concepts."
        ) from None
    except NotADirectoryError:
        raise DataError(
            f"{folder} is a file; concepts lists folders of pictures."
        ) from None
    except OSError as error:
        raise DataError(
            f"The picture folder {folder} can not be read ({error.strerror})."
        ) from error
