"""Files of runs that are no longer needed, and their removal."""

from __future__ import annotations

import dataclasses
import shutil
from pathlib import Path

from .._exceptions import OutputError
from .run_lock import hold_run
from .run_summary import RunSummary

__all__ = ["Remains", "remains_of", "remove"]


@dataclasses.dataclass(frozen=True)
class Remains:
    """Folder of a run that can be deleted."""

    path: Path
    reason: str
    size: int
    """Size in bytes."""


def remains_of(
    run: RunSummary, *, checkpoints: bool = False, empty: bool = False
) -> list[Remains]:
    """Return the folders of a run that can be deleted. None of a running one.

    Args:
        run: the run.
        checkpoints: whether to include all checkpoints of a finished run, whose LoRA
            files are kept.
        empty: whether to include runs that ended without a checkpoint and LoRA file.
    """
    folder = run.folder
    if run.running:
        return []
    if empty and not folder.has_checkpoint and not any(folder.lora.glob("*")):
        return [_remains(folder.root, "no checkpoint and no LoRA")]
    found = [
        _remains(path, "abandoned branch")
        for path in sorted(folder.abandoned.glob("*"))
    ]
    if checkpoints and run.state == "finished" and run.files:
        found += [
            _remains(path, "checkpoint of a finished run")
            for path in sorted(folder.checkpoints.glob("step-*"))
        ]
    return found


def _remains(path: Path, reason: str) -> Remains:
    files = [file for file in path.rglob("*") if file.is_file()]
    return Remains(path, reason, sum(file.lstat().st_size for file in files))


def remove(run: RunSummary, found: list[Remains]) -> None:
    """Delete folders of a run, which is locked meanwhile.

    Raises:
        OutputError: If a process uses the run, or a folder cannot be deleted.
    """
    with hold_run(run.folder.root):
        for item in found:
            try:
                shutil.rmtree(item.path)
            except OSError as error:
                raise OutputError(
                    f"{item.path} cannot be deleted ({error.strerror}). Check the "
                    "permissions of the folder."
                ) from error
