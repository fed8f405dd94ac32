"""Search for files with equal content."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from .hashes import sha256

__all__ = ["duplicates"]


def duplicates(paths: Iterable[Path]) -> tuple[tuple[Path, ...], ...]:
    """Return groups of files with equal content. Only files of equal size are read.

    Files that cannot be read are ignored.
    """
    by_length = _grouped((_length(path), path) for path in dict.fromkeys(paths))
    return tuple(
        tuple(same)
        for group in by_length
        for same in _grouped((_content(path), path) for path in group)
    )


def _length(path: Path) -> object:
    try:
        return path.stat().st_size
    except OSError:
        return path


def _content(path: Path) -> object:
    try:
        return sha256(path)
    except OSError:
        return path


def _grouped(pairs: Iterable[tuple[object, Path]]) -> list[list[Path]]:
    """Return the groups of two or more values with the same key."""
    groups: dict[object, list[Path]] = {}
    for key, path in pairs:
        groups.setdefault(key, []).append(path)
    return [group for group in groups.values() if len(group) > 1]
