"""Writing of caption files, one or many, and undoing the last edit of many.

Before an edit of many captions, their previous bytes are saved in a file. If a caption
cannot be written, those that were written are restored.
"""

from __future__ import annotations

import base64
import contextlib
import dataclasses
import json
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from .._exceptions import DataError, OutputError
from ..config.caption_extension import TEXT
from ..files.atomic import atomic_write
from .caption_edits import Edit
from .captions import read_caption

__all__ = [
    "Change",
    "Undone",
    "apply_changes",
    "changes_by",
    "contents",
    "last_edit",
    "record_changes",
    "undo_changes",
    "write_caption",
]


@dataclasses.dataclass(frozen=True)
class Change:
    """Change of the caption of an image."""

    image: Path
    before: str
    after: str
    extension: str = TEXT

    @property
    def path(self) -> Path:
        """Return the caption file."""
        return self.image.with_suffix(self.extension)


@dataclasses.dataclass(frozen=True)
class Undone:
    """Result of :func:`undo_changes`."""

    restored: int
    kept: tuple[Path, ...]
    """Caption files that were changed since the edit and are therefore kept."""


def write_caption(image: Path, text: str, extension: str = TEXT) -> bool:
    """Write the caption file of an image. Return whether the text has changed.

    Raises:
        OutputError: If the file cannot be written. An existing file is not changed.
    """
    try:
        before = read_caption(image, extension=extension)
    except DataError:
        before = None
    after = text.strip()
    if after == (before or ""):
        return False
    _write(image.with_suffix(extension), _encoded(after))
    return True


def changes_by(
    edit: Edit, captions: Mapping[Path, str], extension: str = TEXT
) -> list[Change]:
    """Compute the changes that an edit makes, without writing them.

    Images whose names only differ in the suffix share a caption file, which is edited
    once.

    Args:
        edit: the edit.
        captions: captions by image, "" for images without one.
        extension: extension of caption files.
    """
    found: dict[Path, Change] = {}
    for image, before in captions.items():
        change = Change(image, before, edit(before).strip(), extension)
        if change.after != before:
            found.setdefault(change.path, change)
    return list(found.values())


def apply_changes(changes: Sequence[Change], title: str, journal: Path) -> None:
    """Write changed captions.

    Args:
        changes: the changes.
        title: description of the edit.
        journal: file for :func:`undo_changes`. It replaces that of the edit before.

    Raises:
        OutputError: If a file cannot be read or written. All captions and the journal
            are then as before.
    """
    before = {change.path: _content(change.path) for change in changes}
    entries = [
        {
            "path": str(change.path),
            "before": _packed(before[change.path]),
            "after": _packed(_encoded(change.after)),
        }
        for change in changes
    ]
    previous = _content(journal)
    _write_record(journal, title, entries)
    written: list[Path] = []
    try:
        for change in changes:
            _write(change.path, _encoded(change.after))
            written.append(change.path)
    except OutputError:
        for path in written:
            with contextlib.suppress(OutputError):
                _put_back(path, before[path])
        with contextlib.suppress(OutputError):
            _put_back(journal, previous)
        raise


def contents(images: Iterable[Path], extension: str = TEXT) -> dict[Path, bytes | None]:
    """Read the caption files of images, before a program changes them.

    Raises:
        OutputError: If a file cannot be read.
    """
    files = {image.with_suffix(extension) for image in images}
    return {path: _content(path) for path in files}


def record_changes(
    before: Mapping[Path, bytes | None], title: str, journal: Path
) -> int:
    """Make changes of another program undoable. Return the number of changed files.

    Args:
        before: result of :func:`contents` before the changes.
        title: description of the changes.
        journal: file for :func:`undo_changes`, which is kept if nothing has changed.

    Raises:
        OutputError: If a file cannot be read or written.
    """
    after = {path: _content(path) for path in before}
    entries = [
        {
            "path": str(path),
            "before": _packed(before[path]),
            "after": _packed(after[path]),
        }
        for path in sorted(before)
        if after[path] != before[path]
    ]
    if entries:
        _write_record(journal, title, entries)
    return len(entries)


def last_edit(journal: Path) -> str:
    """Return a description of the edit that can be undone, or ""."""
    record = _record(journal)
    return str(record["title"]) if record else ""


def undo_changes(journal: Path) -> Undone:
    """Undo the last edit of many captions.

    Captions that were changed since then are kept.

    Raises:
        OutputError: If a file cannot be read or written. The edit can be undone again.
    """
    record = _record(journal)
    if record is None:
        return Undone(0, ())
    restored, kept = 0, []
    for entry in record["entries"]:
        path, before = Path(entry["path"]), _unpacked(entry["before"])
        now = _content(path)
        if now == before:
            continue
        if now != _unpacked(entry["after"]):
            kept.append(path)
            continue
        _put_back(path, before)
        restored += 1
    journal.unlink(missing_ok=True)
    return Undone(restored, tuple(kept))


def _write_record(journal: Path, title: str, entries: list[dict[str, Any]]) -> None:
    with atomic_write(journal) as part:
        record = {"title": title, "entries": entries}
        part.write_text(json.dumps(record), encoding="utf-8")


def _record(journal: Path) -> dict | None:
    try:
        record = json.loads(journal.read_text(encoding="utf-8"))
        return record if record["entries"] else None
    except (OSError, ValueError, KeyError, TypeError):
        return None


def _encoded(text: str) -> bytes:
    return f"{text}\n".encode()


def _content(path: Path) -> bytes | None:
    try:
        return path.read_bytes()
    except FileNotFoundError:
        return None
    except OSError as error:
        raise OutputError(f"{path} cannot be read: {error.strerror}.") from error


def _write(path: Path, content: bytes) -> None:
    with atomic_write(path) as part:
        part.write_bytes(content)


def _put_back(path: Path, content: bytes | None) -> None:
    if content is not None:
        _write(path, content)
        return
    try:
        path.unlink(missing_ok=True)
    except OSError as error:
        raise OutputError(f"{path} cannot be removed: {error.strerror}.") from error


def _packed(content: bytes | None) -> str | None:
    return None if content is None else base64.b64encode(content).decode("ascii")


def _unpacked(text: str | None) -> bytes | None:
    return None if text is None else base64.b64decode(text)
