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
    """Find the run folder to resume, and the checkpoint if one was named.

    Nothing is read or cleaned up there yet: another process may be writing.

    Args:
        config: determines the run for ``"last"``: its newest run folder that has a
            checkpoint.
        resume: ``"last"``, a run folder, or a folder ``step-N`` in its checkpoints.

    Raises:
        CheckpointError: there is no such checkpoint.
    """
    if str(resume) == "last":
        for folder in existing_run_folders(config.output_dir, config.run_name):
            if folder.has_checkpoint:
                return folder, None
        raise CheckpointError(
            f"There is no checkpoint of {config.run_name!r} in {config.output_dir} to "
            f"resume from; start without --resume."
        )
    problem = path_problem(str(resume))
    if problem:
        raise CheckpointError(
            f"--resume {str(resume)!a} {problem}; it takes 'last', a run folder or a "
            f"folder step-N in its checkpoints."
        )
    path = Path(resume).resolve()
    # Only a checkpoint has this file; a run folder has its checkpoints below it.
    if (path / "state.json").is_file():
        return _run_of(path), path
    _refuse_abandoned(path)
    if RunFolder(path).has_checkpoint:
        return RunFolder(path), None
    raise CheckpointError(
        f"There is no checkpoint in {path}; --resume takes 'last', a run folder or "
        f"a folder step-N in its checkpoints."
    )


def _run_of(path: Path) -> RunFolder:
    """Find the run of a checkpoint by its location."""
    root = path.parent.parent
    _refuse_abandoned(root)
    if path.parent.name != "checkpoints" or not re.fullmatch(r"step-\d+", path.name):
        raise CheckpointError(
            f"{path} is a checkpoint outside of a run. Move it to "
            f"RUN_FOLDER/checkpoints/step-N, then resume from there."
        )
    return RunFolder(root)


def _refuse_abandoned(root: Path) -> None:
    run = RunFolder(root.parent.parent)
    if root.parent == run.abandoned and run.checkpoints.is_dir():
        raise CheckpointError(
            f"{root} contains a branch that the run left when it was resumed from an "
            f"older checkpoint. Move its checkpoints back to {run.checkpoints}, then "
            f"resume from there."
        )


def check_steps(config: TrainConfig, path: Path, checkpoint: Checkpoint) -> None:
    """Reject a run that would end before the checkpoint it resumes from.

    Raises:
        CheckpointError: ``steps`` is lower than the checkpoint's.
    """
    if config.steps < checkpoint.step:
        raise CheckpointError(
            f"steps={config.steps}: the checkpoint {path} is at step "
            f"{checkpoint.step} already. Set steps to {checkpoint.step} or more, or "
            f"resume from an older checkpoint."
        )


def read_latest(folder: RunFolder) -> tuple[Path, Checkpoint]:
    """Find the run's latest checkpoint that is not damaged.

    Raises:
        CheckpointError: there is none.
    """
    error = CheckpointError(f"The checkpoints in {folder.root} are gone.")
    # Checkpoints are written atomically, but disks fail: fall back to older ones.
    for path in reversed(list_checkpoints(folder.checkpoints)):
        try:
            return path, load_checkpoint(path)
        except CheckpointError as damaged:
            say(f"{damaged} Trying the one before it.")
            error = damaged
    raise error
