"""Edits of many captions that can be undone, also after a restart."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from ..._wording import counted
from ...data.caption_files import Change, apply_changes, last_edit, undo_changes
from .memory import home

__all__ = ["edited_captions", "journal", "title_of_last_edit", "undo_last_edit"]


def journal() -> Path:
    """Return the file with the last edit."""
    return home() / "last_caption_edit.json"


def title_of_last_edit() -> str:
    """Return the description of the edit that can be undone, or ""."""
    return last_edit(journal()) or ""


def edited_captions(changes: Sequence[Change], title: str) -> str:
    """Write changed captions. Return a message.

    Args:
        changes: the changes.
        title: description of the edit.

    Raises:
        OutputError: If a file cannot be written. Then no caption is changed.
    """
    apply_changes(changes, title, journal())
    count = counted(len(changes), "caption was", "captions were")
    return f"{count} changed. Undo edit restores them."


def undo_last_edit() -> str:
    """Restore the captions of the last edit. Return a message.

    Raises:
        OutputError: If a file cannot be written.
    """
    found = undo_changes(journal())
    text = counted(found.restored, "caption was", "captions were") + " restored."
    if found.kept:
        kept = counted(len(found.kept), "caption was", "captions were")
        text += f" {kept} changed since then and kept ({found.kept[0].name})."
    return text
