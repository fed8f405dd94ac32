"""Branches of the checkpoints of a run, and files that a resume abandons.

A run that is resumed from an older checkpoint branches there. Later checkpoints belong
to an abandoned branch: they are moved away with the files that were written after that
step, so that the folder contains one branch at a time.
"""

from __future__ import annotations

import dataclasses
import secrets
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from ..._exceptions import OutputError
from ...runs.events import current_events
from ...runs.run_folder import RunFolder

__all__ = ["Branch", "last_written", "move_aside"]


@dataclasses.dataclass(frozen=True)
class Branch:
    """The branch of a checkpoint, and the branches before it."""

    name: str = ""
    """Empty for the first one."""

    parents: tuple[tuple[str, int], ...] = ()
    """Earlier branches, oldest first, each with the step at which it was left."""

    def holds(self, step: int, other: Branch) -> bool:
        """Return whether checkpoint ``step`` of ``other`` is before the end of this."""
        if other.name == self.name:
            return True
        return any(name == other.name and step <= last for name, last in self.parents)

    def shared_with(self, step: int, other: Branch) -> int:
        """Last step that checkpoint ``step`` of this branch shares with ``other``.

        >>> fork = Branch().fork(4)
        >>> Branch().shared_with(8, fork), Branch().shared_with(2, fork)
        (4, 2)
        """
        shared = 0
        mine = (*self.parents, (self.name, step))
        for (name, last), (others_name, others_last) in zip(
            mine, (*other.parents, (other.name, step)), strict=False
        ):
            # Branches are compared from the oldest; they share steps up to the first
            # difference.
            if name != others_name:
                break
            shared = min(last, others_last)
        return shared

    def fork(self, step: int) -> Branch:
        """Start another branch after ``step`` of this one."""
        # Not from the seeded generators, which belong to the training.
        return Branch(secrets.token_hex(4), (*self.parents, (self.name, step)))

    def to_json(self) -> dict[str, Any]:
        """Convert to plain values for ``from_json``."""
        return {"name": self.name, "parents": [list(p) for p in self.parents]}

    @classmethod
    def from_json(cls, data: Any) -> Branch:
        """Parse a result of ``to_json``; None, from older checkpoints, is the first.

        Raises:
            TypeError: If the data is invalid.
            ValueError: If the data is invalid.
        """
        if data is None:
            return cls()
        name, parents = data["name"], data["parents"]
        found = tuple((parent, last) for parent, last in parents)
        if not all(isinstance(text, str) for text in (name, *(p for p, _ in found))):
            raise TypeError("branch")
        if not all(type(last) is int for _, last in found):
            raise TypeError("branch")
        return cls(name, found)


def last_written(folder: RunFolder) -> Path | None:
    """Path of the checkpoint that the run wrote last, according to its events."""
    names = [
        Path(str(event["values"].get("path"))).name
        for event in current_events(folder.events_file)
        if event["type"] == "checkpoint"
    ]
    return folder.checkpoints / names[-1] if names else None


def move_aside(
    folder: RunFolder, checkpoints: Sequence[Path], step: int, shared: int
) -> tuple[Path, list[Path]]:
    """Move checkpoints of an abandoned branch, and files written after ``shared``.

    Args:
        folder: folder of the run.
        checkpoints: checkpoints to move, starting with the last one. If the process is
            killed, the remaining ones are the beginning of that branch.
        step: step at which the run branches, which is part of the name of the new
            folder.
        shared: last step that both branches have in common. LoRA files and samples of
            later steps are moved, too. It is lower than ``step`` if the run returns to
            an abandoned branch.

    Returns:
        The new folder in ``abandoned``, and the former paths of the moved files.

    Raises:
        OutputError: If the files cannot be moved.
    """
    # Read before anything is marked as abandoned.
    files = list(_files_after(folder, shared))
    # A run may be resumed from the same step several times; nothing is overwritten.
    target = _free_name(folder.abandoned / f"after-step-{step}")
    moved = []
    try:
        for path in (*checkpoints, *files):
            place = target / path.relative_to(folder.root)
            place.parent.mkdir(parents=True, exist_ok=True)
            path.rename(place)
            moved.append(path)
    except OSError as error:
        raise OutputError(
            f"{folder.abandoned}: the later checkpoints cannot be moved to this "
            f"folder ({error.strerror}). Move them manually, then resume."
        ) from error
    return target, moved


def _files_after(folder: RunFolder, step: int) -> Iterator[Path]:
    """LoRA files and samples that were last written after ``step``."""
    written: dict[Path, int] = {}
    for event in current_events(folder.events_file):
        place = {"lora": folder.lora, "sample": folder.samples}.get(event["type"])
        names = event["values"].get("files")
        if place is not None and isinstance(names, list):
            # A bare name: an edited events file must not lead to other folders.
            written |= {place / Path(str(name)).name: event["step"] for name in names}
    for path, last in written.items():
        if last > step and path.is_file():
            yield path


def _free_name(path: Path) -> Path:
    found, number = path, 1
    while found.exists():
        number += 1
        found = path.with_name(f"{path.name}-{number}")
    return found
