"""Checked paths of files in the folders that are served."""

from __future__ import annotations

import os
import re
import stat
from pathlib import Path

from .security import Refusal

__all__ = ["check_new_name", "served_file"]

# Names that mean a device in Windows, in every folder.
_DEVICES = re.compile(
    r"(con|prn|aux|nul|conin\$|conout\$|(com|lpt)[0-9¹²³])(\..*)?", re.IGNORECASE
)
_READ = re.compile(r"[\x00-\x1f\x7f:\\/]")
_WRITTEN = re.compile(r'[<>"|?*]')
# Bytes that common file systems allow for a name, less those of suffixes of our own.
_MOST_BYTES = 200


def check_new_name(name: str) -> str:
    """Return a file name that can be written, and means the same, on every system.

    Raises:
        Refusal: If it contains a path, a device, a stream or a control character.
    """
    if (
        _WRITTEN.search(name)
        or not name.isprintable()
        or name.startswith("~")
        or len(name.encode()) > _MOST_BYTES
    ):
        raise _refused(name)
    return _check_name(name)


def _check_name(name: str) -> str:
    wrong = (
        not name
        or name.startswith(".")
        or name.endswith((".", " "))
        or _READ.search(name)
        or _DEVICES.fullmatch(name)
    )
    if wrong:
        raise _refused(name)
    return name


def _refused(name: str) -> Refusal:
    return Refusal(400, f"The file name {name[:80]!a} is not allowed.")


def served_file(root: Path, place: str) -> Path:
    """Return a regular file below a folder.

    Args:
        root: folder without symbolic links.
        place: path in the folder, with forward slashes.

    Raises:
        Refusal: If there is no such file, or a part of its path is a link.
    """
    path = root
    try:
        for name in place.split("/"):
            path = path / _check_name(name)
            # Each part: a link to a folder elsewhere is as bad as one to a file.
            if path.is_symlink() or _is_junction(path):
                raise Refusal(403, "Links to other files are not served.")
        is_file = stat.S_ISREG(path.stat().st_mode)
    # Also names that are too long.
    except (OSError, ValueError):
        is_file = False
    if not is_file:
        raise Refusal(404, "There is no such file.")
    if not path.resolve().is_relative_to(root.resolve()):
        raise Refusal(403, "Files outside of the folder are not served.")
    return path


def _is_junction(path: Path) -> bool:
    check = getattr(os.path, "isjunction", None)
    return bool(check and check(path))
