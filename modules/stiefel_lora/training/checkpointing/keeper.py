"""Writing and removal of the checkpoints of a run."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ...runs.progress import say
from ...runs.run_folder import RunFolder
from ..finite import check_blocks, check_finite
from ..logging.sinks import MetricSink
from ..state import TrainingState
from .branches import Branch, last_written, move_aside
from .checkpoint import (
    Checkpoint,
    branch_of,
    checkpoint_path,
    is_on_branch,
    list_checkpoints,
    save_checkpoint,
    step_of,
)
from .snapshot import take_snapshot

if TYPE_CHECKING:
    from ...config import TrainConfig

__all__ = ["CheckpointKeeper"]


class CheckpointKeeper:
    """Save checkpoints of a run and remove old ones.

    Args:
        config: configuration with the number of checkpoints to keep.
        state: training state to save.
        folder: folder of the run.
        sink: sink to which an event is written for every checkpoint.
        identity: identity of this run.
        images: images of this run, which are compared when resuming.
    """

    def __init__(
        self,
        config: TrainConfig,
        state: TrainingState,
        folder: RunFolder,
        sink: MetricSink,
        identity: dict[str, Any],
        images: dict[str, Any],
    ) -> None:
        self._config = config
        self._state = state
        self._folder = folder
        self._sink = sink
        self._identity = identity
        self._images = images
        self.latest: Path | None = None
        """Latest checkpoint that was written or loaded by this process."""

        self.branch = Branch()
        """Branch of this run."""

        self.writes = state.processes.is_main
        """Whether this process writes the checkpoints."""

    @property
    def latest_step(self) -> int | None:
        """Step of ``latest``."""
        if self.latest is None:
            return None
        return step_of(self.latest)

    def begin_branch(self, path: Path, checkpoint: Checkpoint) -> list[Path]:
        """Move checkpoints after the loaded one to another folder, and print a message.

        Returns:
            Former paths of the moved files.

        Raises:
            OutputError: If the files cannot be moved.
        """
        moved, self.branch = self._state.processes.from_main(
            lambda: self._begin_branch(path, checkpoint)
        )
        self.latest = path
        return moved

    def _begin_branch(
        self, path: Path, checkpoint: Checkpoint
    ) -> tuple[list[Path], Branch]:
        """Move the checkpoints. Return their former paths, and the branch."""
        # Other checkpoints are judged by their branch, not by their step: an abandoned
        # branch may have fewer steps than this one.
        others = [
            found
            for found in reversed(list_checkpoints(self._folder.checkpoints))
            if found != path and not is_on_branch(found, checkpoint)
        ]
        if not others:
            # A process that was killed between moving them and its first checkpoint
            # left no trace of its branch except for the moved files.
            moved = _continues_elsewhere(self._folder, checkpoint)
            branch = checkpoint.branch
            return [], branch.fork(checkpoint.step) if moved else branch
        shared, latest = checkpoint.step, last_written(self._folder)
        # Files in the folder belong to the latest branch, which may have split off
        # before this step.
        if latest in others and (left := branch_of(latest)):
            shared = checkpoint.branch.shared_with(checkpoint.step, left)
        place, moved = move_aside(self._folder, others, checkpoint.step, shared)
        names = ", ".join(found.name for found in others)
        say(
            f"Resuming from {path.name} creates a new branch of this run. {names} "
            f"and the files that were written after step {shared} were moved to "
            f"{place}. Delete it if you do not need it."
        )
        return moved, checkpoint.branch.fork(checkpoint.step)

    def save(self, step: int, position: int, figures: dict[str, Any]) -> Path:
        """Write a checkpoint of the state after ``step``.

        Args:
            step: number of completed optimizer steps.
            position: number of images that were used for training.
            figures: running averages and counters of the loop.

        Raises:
            NonFiniteError: If the state contains NaN or infinity.
            OutputError: If the disk is full. Older checkpoints are not changed.
        """
        # A checkpoint with NaN would become the last good one and replace good ones.
        check_blocks(self._state.adapters, step=step, last=self.last_good())
        if not self.writes:
            self.latest = checkpoint_path(self._folder.checkpoints, step)
            return self.latest
        figures = {**figures, "images": self._images}
        snapshot = take_snapshot(self._state, step, position, self._identity, figures)
        snapshot = dataclasses.replace(snapshot, branch=self.branch)
        self.latest = save_checkpoint(
            self._folder.checkpoints, snapshot, self._config.keep_checkpoints
        )
        self._sink.event("checkpoint", step, {"path": self.latest})
        return self.latest

    def check(self, value: float, what: str, step: int) -> None:
        """Check that the loss or gradient norm is finite.

        Raises:
            NonFiniteError: If ``value`` is NaN or infinite.
        """
        check_finite(
            value,
            what,
            step=step,
            adapters=self._state.adapters,
            model=self._state.model,
            last=self.last_good(),
        )

    def last_good(self) -> Path | None:
        """Return the latest valid checkpoint on disk, or None."""
        kept = list_checkpoints(self._folder.checkpoints)
        return kept[-1] if kept else None


def _continues_elsewhere(folder: RunFolder, checkpoint: Checkpoint) -> bool:
    """Return whether later checkpoints of the same branch were moved before."""
    return any(
        step_of(path) > checkpoint.step and branch_of(path) == checkpoint.branch
        for place in folder.abandoned.glob("*/checkpoints")
        for path in list_checkpoints(place)
    )
