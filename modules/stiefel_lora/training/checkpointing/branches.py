"""Branches of a run that is resumed from an older checkpoint.

If a run is resumed from an older checkpoint, later checkpoints belong to an abandoned
branch. They are moved to another folder, together with LoRA files and samples that were
written after that step, so that the run folder contains only one branch.
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
    """Branch of a checkpoint, with its earlier branches."""

    name: str = ""
    """ID of the branch. It is empty for the first branch."""

    parents: tuple[tuple[str, int], ...] = ()
    """Earlier branches, oldest first, with the step at which each of them ends."""

    def holds(self, step: int, other: Branch) -> bool:
        """Return whether checkpoint ``step`` of ``other`` is part of this branch."""
        if other.name == self.name:
            return True
        return any(name == other.name and step <= last for name, last in self.parents)

    def shared_with(self, step: int, other: Branch) -> int:
        """Return the last step that checkpoint ``step`` has in common with ``other``.

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
        """Create a new branch that begins after ``step`` of this branch."""
        # Not from the seeded generators, which belong to the training.
        return Branch(secrets.token_hex(4), (*self.parents, (self.name, step)))

    def to_json(self) -> dict[str, Any]:
        """Convert to JSON data for :meth:`from_json`."""
        return {"name": self.name, "parents": [list(p) for p in self.parents]}

    @classmethod
    def from_json(cls, data: Any) -> Branch:
        """Parse a result of :meth:`to_json`. None is the first branch.

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
    """Return the path of the last checkpoint according to the events of the run."""
    names = [
        Path(str(event["values"].get("path"))).name
        for event in current_events(folder.events_file)
        if event["type"] == "checkpoint"
    ]
    return folder.checkpoints / names[-1] if names else None


def move_aside(
    folder: RunFolder, checkpoints: Sequence[Path], step: int, shared: int
) -> tuple[Path, list[Path]]:
    """Move the checkpoints of an abandoned branch and files of later steps.

    Args:
        folder: folder of the run.
        checkpoints: checkpoints to move. The last one is moved first.
        step: step at which the new branch begins, which is part of the name of the
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
    """Return the LoRA files and samples that were written after ``step``."""
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
