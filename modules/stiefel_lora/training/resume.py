"""Find the checkpoint that a run shall go on from."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from .._exceptions import CheckpointError
from .checkpoint import (
    Checkpoint,
    list_checkpoints,
    load_checkpoint,
    remove_leftovers,
)
from .progress import say
from .run_folder import RunFolder, existing_run_folders

if TYPE_CHECKING:
    from ..config import TrainConfig

__all__ = ["find_resume"]


def find_resume(
    config: TrainConfig, resume: str | Path
) -> tuple[RunFolder, Path, Checkpoint]:
    """Folder of the run, path of the checkpoint, and the checkpoint itself.

    Args:
        config: names the run for ``"last"``: the newest run folder that has a
            checkpoint.
        resume: ``"last"``, a run folder, or a folder ``step-N`` in its checkpoints.
            Of a run the latest checkpoint is taken that is not damaged.

    Raises:
        CheckpointError: there is none.
    """
    if str(resume) == "last":
        runs = existing_run_folders(config.output_dir, config.run_name)
        for folder in runs:
            found = _latest(folder)
            if found is not None:
                return folder, *found
        raise CheckpointError(
            f"There is no checkpoint of {config.run_name!r} in {config.output_dir} to "
            f"resume from; start without --resume."
        )
    path = Path(resume).resolve()
    if (path / "state.json").is_file():
        return RunFolder(path.parent.parent), path, load_checkpoint(path)
    found = _latest(RunFolder(path))
    if found is None:
        raise CheckpointError(
            f"There is no checkpoint in {path}; --resume takes 'last', a run folder or "
            f"a folder step-N in its checkpoints."
        )
    return RunFolder(path), *found


def _latest(folder: RunFolder) -> tuple[Path, Checkpoint] | None:
    remove_leftovers(folder.checkpoints)
    error: CheckpointError | None = None
    for path in reversed(list_checkpoints(folder.checkpoints)):
        try:
            return path, load_checkpoint(path)
        except CheckpointError as damaged:
            say(f"{damaged} Trying the one before it.")
            error = damaged
    if error is not None:
        raise error
    return None
