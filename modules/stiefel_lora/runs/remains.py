"""Files of runs that are no longer needed, and their removal.

Only what a training writes is deleted. A folder that was replaced by a link, and a run
folder with files of the user, are kept and reported.
"""

from __future__ import annotations

import dataclasses
import re
import shutil
from collections.abc import Iterable, Iterator
from pathlib import Path

from .._exceptions import OutputError
from .run_lock import hold_run
from .run_summary import RunSummary

__all__ = ["Remains", "remains_of", "remove"]

_STEP = re.compile(r"step-\d+")
_BRANCH = re.compile(r"after-step-\d+(-\d+)?")
_IN_RUN = re.compile(r"config\.json|events\.jsonl|plot\.(png|svg|html)|\..*")
"""Files in a run folder that ended without a result. Hidden ones are unfinished."""

_IN_PARTS = {
    "tensorboard": re.compile(r"events\.out\.tfevents\..*"),
    "samples": re.compile(r"step-.*\.png|\..*"),
    "checkpoints": re.compile(r"\..*"),
    "lora": re.compile(r"\..*"),
    "commands": re.compile(r".*"),
}


@dataclasses.dataclass(frozen=True)
class Remains:
    """Folder of a run that can be deleted, or that is kept for a reason."""

    path: Path
    reason: str
    size: int = 0
    """Size in bytes."""

    kept: bool = False
    """Whether the folder is kept."""


def remains_of(
    run: RunSummary, *, checkpoints: bool = False, empty: bool = False
) -> list[Remains]:
    """Return the folders of a run that can be deleted. None of a running one.

    Args:
        run: the run.
        checkpoints: whether to include all checkpoints of a finished run, whose LoRA
            files are kept.
        empty: whether to include runs that ended without a checkpoint and LoRA file,
            if they contain no other files.
    """
    folder = run.folder
    if run.running:
        return []
    if folder.root.is_symlink():
        return [Remains(folder.root, "is a link", kept=True)]
    if empty and not folder.has_checkpoint and not _has_files(folder.lora):
        return [_empty_run(folder.root)]
    found = _children(folder.abandoned, _BRANCH, "abandoned branch")
    if checkpoints and run.state == "finished" and run.files:
        reason = "checkpoint of a finished run"
        found += _children(folder.checkpoints, _STEP, reason)
    return found


def _empty_run(root: Path) -> Remains:
    other = next(_other_files(root), None)
    if other is not None:
        name = other.relative_to(root)
        return Remains(root, f"contains {name}", kept=True)
    return _remains(root, "no checkpoint and no LoRA")


def _other_files(root: Path) -> Iterator[Path]:
    """Yield what a training without a result does not leave."""
    for path in sorted(root.iterdir()):
        inside = _IN_PARTS.get(path.name)
        if inside is None or path.is_symlink() or not path.is_dir():
            if path.is_symlink() or path.is_dir() or not _IN_RUN.fullmatch(path.name):
                yield path
            continue
        for part in sorted(path.iterdir()):
            if part.is_symlink() or not inside.fullmatch(part.name):
                yield part


def _children(folder: Path, names: re.Pattern[str], reason: str) -> list[Remains]:
    """Return the folders with names of a kind. Others in there are of the user."""
    if folder.is_symlink():
        return [Remains(folder, "is a link", kept=True)]
    if not folder.is_dir():
        return []
    return [
        _remains(path, reason)
        for path in sorted(folder.iterdir())
        if names.fullmatch(path.name) and path.is_dir() and not path.is_symlink()
    ]


def _has_files(folder: Path) -> bool:
    return any(path.is_file() for path in folder.glob("*"))


def _remains(path: Path, reason: str) -> Remains:
    files = [file for file in path.rglob("*") if file.is_file()]
    return Remains(path, reason, sum(file.lstat().st_size for file in files))


def remove(run: RunSummary, found: Iterable[Remains]) -> None:
    """Delete folders of a run, which is locked meanwhile. All of them are tried.

    Raises:
        OutputError: If a process uses the run, or a folder cannot be deleted.
    """
    failed = []
    with hold_run(run.folder.root):
        for item in found:
            if item.kept:
                continue
            try:
                shutil.rmtree(item.path)
            except OSError as error:
                failed.append(f"{item.path} ({error.strerror or error})")
    if failed:
        raise OutputError(
            f"{', '.join(failed)}: cannot be deleted. Check the permissions."
        )
