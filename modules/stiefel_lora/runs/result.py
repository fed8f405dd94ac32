"""Result of a training run."""

from __future__ import annotations

import dataclasses
from pathlib import Path

__all__ = ["TrainResult"]


@dataclasses.dataclass(frozen=True, kw_only=True)
class TrainResult:
    """Paths and summary values of a run."""

    run_dir: Path
    step: int
    """Optimizer steps done."""

    interrupted: bool
    """Stopped before its last step, with a checkpoint to resume from."""

    stopped_early: bool
    """Stopped early because the validation loss did not improve."""

    best_step: int | None
    """Step of the lowest validation loss, or None without early stopping."""

    lora_files: tuple[Path, ...]
    checkpoint: Path | None
    before_after: Path | None
    """Grid of the first and last samples."""

    tensorboard_dir: Path
    validation_before: float | None
    """Validation loss before the first step."""

    validation_after: float | None
    mean_effective_rank: float | None
    lowest_effective_rank: float | None
    pictures: int
    """Number of training images."""

    unreadable: tuple[str, ...]
    """Skipped image files, each with the reason."""

    wall_seconds: float
    """Seconds in this process, without earlier parts of a resumed run."""
