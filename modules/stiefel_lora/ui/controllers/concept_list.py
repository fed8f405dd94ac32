"""Changes of the list of image folders, in one undo step each."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from ...config.concept import spell_out_concepts
from .document import Document

__all__ = ["add_folders", "include_subfolders", "set_enabled"]


def set_enabled(document: Document, key: str, place: int, enabled: bool) -> None:
    """Enable or disable an image folder.

    Args:
        document: the settings.
        key: ``concepts`` or ``validation_concepts``.
        place: index of the folder.
        enabled: whether the folder is used.
    """
    records = _records(document, key)
    records[place].pop("enabled", None)
    if not enabled:
        records[place]["enabled"] = False
    document.set(key, records)


def add_folders(document: Document, folders: Sequence[Path]) -> list[str]:
    """Add image folders. Return messages about those that are not added."""
    records, refused = _records(document, "concepts"), []
    known = {str(record.get("path", "")) for record in records}
    # An entry of the form without a path is filled first.
    blank = [record for record in records if not record.get("path")]
    for folder in folders:
        if not folder.is_dir():
            refused.append(f"{folder.name} is not a folder.")
        elif str(folder) in known:
            refused.append(f"{folder.name} is already in the list.")
        elif blank:
            blank.pop(0)["path"] = str(folder)
        else:
            records.append({"path": str(folder)})
        known.add(str(folder))
    document.set("concepts", records)
    return refused


def include_subfolders(document: Document, folder: Path) -> None:
    """Include the subfolders of an image folder of the list, if it has any."""
    if not any(path.is_dir() for path in folder.iterdir()):
        return
    records = _records(document, "concepts")
    for record in records:
        if record.get("path") == str(folder) and not record.get("subfolder_repeats"):
            record["include_subdirectories"] = True
    document.set("concepts", records)


def _records(document: Document, key: str) -> list[dict[str, Any]]:
    return [dict(record) for record in spell_out_concepts(document.value(key) or [])]
