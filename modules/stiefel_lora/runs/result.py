"""What a run gives back."""

from __future__ import annotations

import dataclasses
from pathlib import Path

__all__ = ["TrainResult"]


@dataclasses.dataclass(frozen=True, kw_only=True)
class TrainResult:
    """Where everything is, and the figures that sum the run up."""

    run_dir: Path
    step: int
    """Optimizer steps done."""

    interrupted: bool
    """Stopped before its last step, with a checkpoint to resume from."""

    stopped_early: bool
    """Ended because the held-out loss no longer fell."""

    best_step: int | None
    """Step of the lowest held-out loss, of a run that may end early."""

    lora_files: tuple[Path, ...]
    checkpoint: Path | None
    before_after: Path | None
    """Grid of the first and the last samples."""

    tensorboard_dir: Path
    validation_before: float | None
    """Held-out loss before the first step."""

    validation_after: float | None
    mean_effective_rank: float | None
    lowest_effective_rank: float | None
    pictures: int
    """Pictures that were learned from."""

    unreadable: tuple[str, ...]
    """Picture files that were left out, each with the reason."""

    wall_seconds: float
    """Time of this process, without earlier parts of a resumed run."""
