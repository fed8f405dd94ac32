"""Listing of the files in a folder, with the reasons for skipping system files."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

from .._exceptions import DataError

__all__ = ["HIDDEN_FILES", "walk"]

# Folders without a leading dot in which systems, network drives and archivers keep
# thumbnails, copies and deleted files. Compared in lower case.
_OF_SYSTEMS = frozenset(
    {
        "__macosx",
        "__pycache__",
        "@eadir",
        "@recently-snapshot",
        "@recycle",
        "@sharebin",
        "@tmp",
        "#recycle",
        "#snapshot",
        "$recycle.bin",
        "found.000",
        "lost+found",
        "network trash folder",
        "recycled",
        "recycler",
        "system volume information",
        "temporary items",
        "thefindbycontentfolder",
        "thevolumesettingsfolder",
        "~snapshot",
    }
)


HIDDEN_FILES = "hidden files"


def walk(folder: Path, *, deep: bool) -> list[tuple[Path, str]]:
    """List the paths in a folder, and in its subfolders if ``deep`` is True.

    Links to folders are listed, but not followed.

    Returns:
        The paths, with the reason for skipping each of them: the name of the hidden or
        system folder that contains it, ``HIDDEN_FILES`` for hidden files, otherwise "".

    Raises:
        DataError: If a folder is missing or cannot be read.
    """
    found: list[tuple[Path, str]] = []
    for place, folders, files in os.walk(folder, onerror=_refuser(folder)):
        reason = _hidden_part(Path(place), folder)
        found += [
            (Path(place, name), reason or (HIDDEN_FILES if name[:1] == "." else ""))
            for name in (*folders, *files)
        ]
        if not deep:
            break
    return sorted(found, key=_by_path if deep else _by_name)


def _hidden_part(place: Path, folder: Path) -> str:
    """Return the name of the first hidden or system folder in a path."""
    parts = place.relative_to(folder).parts
    return next((part for part in parts if _is_of_programs(part)), "")


def _is_of_programs(name: str) -> bool:
    return name.startswith(".") or name.lower() in _OF_SYSTEMS


def _by_path(entry: tuple[Path, str]) -> Path:
    return entry[0]


def _by_name(entry: tuple[Path, str]) -> str:
    return entry[0].name


def _refuser(top: Path) -> Callable[[OSError], None]:
    def refuse(error: OSError) -> None:
        # System folders on a drive ("lost+found") are often not accessible.
        if _hidden_part(Path(error.filename), top):
            return
        raise _problem(Path(error.filename), error) from None

    return refuse


def _problem(folder: Path, error: OSError) -> DataError:
    if isinstance(error, FileNotFoundError):
        return DataError(
            f"The image folder {folder} does not exist. Correct the path in concepts."
        )
    if isinstance(error, NotADirectoryError):
        return DataError(f"{folder} is a file, but concepts must be folders of images.")
    return DataError(f"The image folder {folder} cannot be read ({error.strerror}).")
