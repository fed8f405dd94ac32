"""Limits of uploads, their results, and errors of the disk."""

from __future__ import annotations

import contextlib
import dataclasses
import errno
import os
import shutil
from collections.abc import Iterator
from pathlib import Path

from ..._wording import counted
from .security import Refusal

__all__ = ["TEXTS", "Added", "Limits", "check_count", "check_space", "on_disk"]

TEXTS = (".txt", ".caption", ".jsonl")
"""Extensions of files with captions."""

_FULL = (errno.ENOSPC, errno.EDQUOT)


@dataclasses.dataclass(frozen=True)
class Limits:
    """Largest sizes of uploads, in bytes."""

    image: int = 256 << 20
    text: int = 1 << 20
    archive: int = 8 << 30
    unpacked: int = 16 << 30
    """Size of all files of a zip file together."""

    ratio: int = 20
    """Size of the files of a zip file, relative to the zip file. Images and weights
    hardly get smaller, so that more is a mistake or an attack."""

    files: int = 20_000
    """Number of files in a dataset."""

    reserve: int = 256 << 20
    """Space on the disk that is left for the training."""


@dataclasses.dataclass(frozen=True)
class Added:
    """Result of an upload."""

    folder: Path
    files: list[str]
    skipped: list[str] = dataclasses.field(default_factory=list)

    @property
    def message(self) -> str:
        """Message for the user."""
        text = f"{counted(len(self.files), 'file', 'files')} added."
        if self.skipped:
            number = counted(len(self.skipped), "file", "files")
            text += f" {number} skipped: {self.skipped[0]}."
        return text


def check_count(folder: Path, more: int, limits: Limits) -> None:
    """Check the number of files of a dataset.

    Args:
        folder: folder of the dataset.
        more: number of files that are added.
        limits: largest number.

    Raises:
        Refusal: If there are too many.
    """
    known = sum(len(files) for _, _, files in os.walk(folder))
    if known + more > limits.files:
        raise Refusal(
            413, f"A dataset may have at most {limits.files} files. Use another one."
        )


@contextlib.contextmanager
def on_disk() -> Iterator[None]:
    """Convert errors of the disk.

    Raises:
        Refusal: If it is full or not writable.
    """
    try:
        yield
    except OSError as error:
        if error.errno in _FULL:
            raise _no_space() from error
        reason = error.strerror or type(error).__name__
        raise Refusal(500, f"The file could not be written: {reason}.") from error


def check_space(folder: Path, size: int, limits: Limits) -> None:
    """Check that some bytes can be written.

    Raises:
        Refusal: If the disk is full.
    """
    while not folder.exists() and folder != folder.parent:
        folder = folder.parent
    if shutil.disk_usage(folder).free - size < limits.reserve:
        raise _no_space()


def _no_space() -> Refusal:
    return Refusal(
        507, "The disk of the server is full. Nothing was added. Free some space."
    )
