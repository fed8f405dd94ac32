"""Paths as text: what no file system takes, and the home folder."""

from __future__ import annotations

import os
import sys
from pathlib import Path

__all__ = ["expanded", "path_problem"]

# Names: Linux counts bytes, Windows and macOS count characters. Whole paths: the limit
# of Linux, which is the largest of the three.
_LONGEST_NAME = 255
_LONGEST_PATH = 4096


def path_problem(text: str) -> str | None:
    """The rule that text which cannot be a path breaks; None for a usable path."""
    if "\0" in text:
        return "must be text without a null character"
    try:
        encoded = os.fsencode(text)
        # Names of other bytes have no place in JSON, metadata and databases.
        text.encode("utf-8")
    except UnicodeEncodeError:
        return "must be valid Unicode text"
    in_bytes = sys.platform.startswith("linux")
    names = text.replace("\\", "/").split("/") if os.name == "nt" else text.split("/")
    longest = max(len(os.fsencode(name) if in_bytes else name) for name in names)
    unit = "bytes" if in_bytes else "characters"
    if longest > _LONGEST_NAME:
        return f"must have at most {_LONGEST_NAME} {unit} in each file or folder name"
    if len(encoded) > _LONGEST_PATH:
        return f"must have at most {_LONGEST_PATH} bytes"
    return None


def expanded(path: str | Path) -> Path:
    """Put the home folder in place of ``~``; text that cannot be a path stays."""
    return Path(path if path_problem(str(path)) else os.path.expanduser(path))
