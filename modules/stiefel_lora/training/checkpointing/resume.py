"""Search for the checkpoint to resume from."""

from __future__ import annotations

import re
from pathlib import Path
from typing import TYPE_CHECKING

from ..._exceptions import CheckpointError
from ...config.path_text import path_problem
from ...runs.progress import say
from ...runs.run_folder import RunFolder, existing_run_folders
from .checkpoint import Checkpoint, list_checkpoints, load_checkpoint

if TYPE_CHECKING:
    from ...config import TrainConfig

__all__ = ["check_steps", "find_run", "read_latest"]


def find_run(config: TrainConfig, resume: str | Path) -> tuple[RunFolder, Path | None]:
    """Find the run folder to resume, and the checkpoint if it was specified.

    The folder is not read or changed, because another process may be using it.

    Args:
        config: configuration of the run. For ``"last"``, the newest run folder with its
            ``run_name`` and a checkpoint is used.
        resume: ``"last"``, a run folder, or a folder ``step-N`` in its checkpoints.

    Raises:
        CheckpointError: If the checkpoint does not exist.
    """
    if str(resume) == "last":
        for folder in existing_run_folders(config.output_dir, config.run_name):
            if folder.has_checkpoint:
                return folder, None
        raise CheckpointError(
            f"There is no checkpoint of {config.run_name!r} in {config.output_dir} "
            "to resume from. Start without --resume."
        )
    problem = path_problem(str(resume))
    if problem:
        raise CheckpointError(
            f"--resume {str(resume)!a} {problem}. It must be 'last', a run folder "
            "or one of its checkpoints (a folder step-N)."
        )
    path = Path(resume).resolve()
    # Only a checkpoint has this file; a run folder has its checkpoints below it.
    if (path / "state.json").is_file():
        return _run_of(path), path
    _refuse_abandoned(path)
    if RunFolder(path).has_checkpoint:
        return RunFolder(path), None
    raise CheckpointError(
        f"There is no checkpoint in {path}. --resume must be 'last', a run folder "
        "or one of its checkpoints (a folder step-N)."
    )


def _run_of(path: Path) -> RunFolder:
    """Return the run folder of a checkpoint."""
    root = path.parent.parent
    _refuse_abandoned(root)
    if path.parent.name != "checkpoints" or not re.fullmatch(r"step-\d+", path.name):
        raise CheckpointError(
            f"{path} is a checkpoint outside of a run folder. Move it to "
            "RUN_FOLDER/checkpoints/step-N, then resume from there."
        )
    return RunFolder(root)


def _refuse_abandoned(root: Path) -> None:
    run = RunFolder(root.parent.parent)
    if root.parent == run.abandoned and run.checkpoints.is_dir():
        raise CheckpointError(
            f"{root} is a branch that was abandoned when the run was resumed from "
            f"an older checkpoint. Move its checkpoints back to {run.checkpoints}, "
            "then resume from there."
        )


def check_steps(config: TrainConfig, path: Path, checkpoint: Checkpoint) -> None:
    """Check that the number of steps is not below the step of the checkpoint.

    Raises:
        CheckpointError: If ``steps`` is lower than the step of the checkpoint.
    """
    if config.steps < checkpoint.step:
        raise CheckpointError(
            f"steps={config.steps}: the checkpoint {path} is already at step "
            f"{checkpoint.step}. Set steps to at least {checkpoint.step}, or resume "
            "from an older checkpoint."
        )


def read_latest(folder: RunFolder) -> tuple[Path, Checkpoint]:
    """Load the latest checkpoint of a run that is not damaged.

    Raises:
        CheckpointError: If there is no valid checkpoint.
    """
    error = CheckpointError(f"The checkpoints in {folder.root} no longer exist.")
    # Checkpoints are written atomically, but disks fail: fall back to older ones.
    for path in reversed(list_checkpoints(folder.checkpoints)):
        try:
            return path, load_checkpoint(path)
        except CheckpointError as damaged:
            say(f"{damaged} Trying the previous one.")
            error = damaged
    raise error
