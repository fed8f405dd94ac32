"""Result of a training run."""

from __future__ import annotations

import dataclasses
from pathlib import Path

__all__ = ["TrainResult"]


@dataclasses.dataclass(frozen=True, kw_only=True)
class TrainResult:
    """Paths and metrics of a run."""

    run_dir: Path
    step: int
    """Number of completed optimizer steps."""

    interrupted: bool
    """Whether the run was stopped before its last step, with a checkpoint."""

    stopped_early: bool
    """Whether the run was stopped early because the validation loss did not improve."""

    best_step: int | None
    """Step of the lowest validation loss, or None without early stopping."""

    lora_files: tuple[Path, ...]
    checkpoint: Path | None
    before_after: Path | None
    """Path of the grid of the first and last samples, or None."""

    tensorboard_dir: Path
    validation_before: float | None
    """Validation loss before the first step."""

    validation_after: float | None
    mean_effective_rank: float | None
    lowest_effective_rank: float | None
    pictures: int
    """Number of training images."""

    unreadable: tuple[str, ...]
    """Skipped image files with the reasons."""

    wall_seconds: float
    """Duration in seconds of this process, without earlier parts of a resumed run."""
