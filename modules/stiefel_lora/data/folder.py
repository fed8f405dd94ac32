"""Find pictures and their captions in concept folders; standard library only."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable
from pathlib import Path
from typing import Protocol

from .._exceptions import DataError

__all__ = ["PICTURE_SUFFIXES", "ConceptLike", "Picture", "Scan", "scan_concepts"]

PICTURE_SUFFIXES = frozenset({".jpg", ".jpeg", ".png", ".webp", ".bmp", ".avif"})


class ConceptLike(Protocol):
    """A folder and how often each of its pictures comes up in one pass."""

    @property
    def path(self) -> Path: ...  # noqa: D102

    @property
    def repeats(self) -> int: ...  # noqa: D102


@dataclasses.dataclass(frozen=True)
class Picture:
    """One picture file with its caption; the caption is empty where none was given."""

    path: Path
    caption: str
    repeats: int = 1


@dataclasses.dataclass(frozen=True)
class Scan:
    """All pictures of some concepts, by folder as given, then by file name."""

    pictures: tuple[Picture, ...]
    without_caption: int
    """How many pictures have no caption file."""


def scan_concepts(concepts: Iterable[ConceptLike]) -> Scan:
    """List the pictures of every folder; files are not decoded here.

    Raises:
        DataError: a folder is missing or has no picture, or a caption is not UTF-8.
    """
    pictures: list[Picture] = []
    missing = 0
    for concept in concepts:
        for path in _picture_files(Path(concept.path)):
            caption = read_caption(path)
            missing += caption is None
            pictures.append(Picture(path, caption or "", concept.repeats))
    return Scan(tuple(pictures), missing)


def read_caption(picture: Path) -> str | None:
    """Text of the .txt file beside ``picture``, or None where there is none.

    Raises:
        DataError: the file is not UTF-8.
    """
    path = picture.with_suffix(".txt")
    try:
        return path.read_text(encoding="utf-8-sig").strip()
    except FileNotFoundError:
        return None
    except UnicodeDecodeError as error:
        raise DataError(
            f"The caption {path} is not UTF-8 (byte {error.start}); save it as UTF-8 "
            f"in a text editor."
        ) from error
    except OSError as error:
        raise DataError(
            f"The caption {path} can not be read ({error.strerror})."
        ) from error


def _picture_files(folder: Path) -> list[Path]:
    try:
        names = sorted(folder.iterdir(), key=lambda path: path.name)
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
    found = [p for p in names if p.suffix.lower() in PICTURE_SUFFIXES and p.is_file()]
    if found:
        return found
    inside = [p for p in names if p.is_dir()]
    hint = (
        f"folders inside it are not searched, so name them one by one ({inside[0]})"
        if inside
        else "put pictures (" + ", ".join(sorted(PICTURE_SUFFIXES)) + ") into it"
    )
    raise DataError(f"The folder {folder} has no pictures; {hint}.")
