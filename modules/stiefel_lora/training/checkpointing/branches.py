"""Which checkpoints of a run came before which, and what a resume leaves behind.

A run that is resumed from an older checkpoint branches there. Later checkpoints belong
to a branch that is abandoned: they are moved out of the way with the files that were
written after that step, so that the folder holds one branch at a time.
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
    """The branch that a checkpoint is on, and those it grew out of."""

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
        """Last step that the checkpoint ``step`` of this has in common with ``other``.

        >>> fork = Branch().fork(4)
        >>> Branch().shared_with(8, fork), Branch().shared_with(2, fork)
        (4, 2)
        """
        shared = 0
        mine = (*self.parents, (self.name, step))
        for (name, last), (others_name, others_last) in zip(
            mine, (*other.parents, (other.name, step)), strict=False
        ):
            if name != others_name:
                break
            shared = min(last, others_last)
        return shared

    def fork(self, step: int) -> Branch:
        """Begin another branch after ``step`` of this one."""
        # Not from the seeded generators, whose numbers belong to the training.
        return Branch(secrets.token_hex(4), (*self.parents, (self.name, step)))

    def to_json(self) -> dict[str, Any]:
        """Plain values, which ``from_json`` reads."""
        return {"name": self.name, "parents": [list(p) for p in self.parents]}

    @classmethod
    def from_json(cls, data: Any) -> Branch:
        """Read what ``to_json`` gave; None, from older checkpoints, is the first.

        Raises:
            TypeError: not such data.
            ValueError: not such data.
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
    """Path of the checkpoint that the run wrote last, by its events."""
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
        folder: of the run.
        checkpoints: what to move, the last one first: should the process die in
            between, those that are left are the beginning of that branch.
        step: where the run branches; it names the new folder.
        shared: LoRA files and samples of later steps go along. Below ``step`` where the
            run returns to a branch that it had left.

    Returns:
        The new folder in ``abandoned``, and the former paths of what was moved.

    Raises:
        OutputError: it cannot be moved.
    """
    # Read before anything is marked as abandoned.
    files = list(_files_after(folder, shared))
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
            f"{folder.abandoned}: the later checkpoints cannot be moved there "
            f"({error.strerror}). Move them away yourself, then resume."
        ) from error
    return target, moved


def _files_after(folder: RunFolder, step: int) -> Iterator[Path]:
    """LoRA files and samples that were last written after ``step``."""
    written: dict[Path, int] = {}
    for event in current_events(folder.events_file):
        place = {"lora": folder.lora, "sample": folder.samples}.get(event["type"])
        names = event["values"].get("files")
        if place is not None and isinstance(names, list):
            # A name alone: an edited file of events leads nowhere else.
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
