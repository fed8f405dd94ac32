"""One training run from a configuration to a LoRA file."""

from __future__ import annotations

import datetime
import shutil
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

from .._exceptions import InputError, TrainingError
from ..runs.progress import say
from ..runs.result import TrainResult
from ..runs.run_folder import create_run_folder
from ..runs.run_lock import hold_run
from .assemble import Inputs, check_inputs, report_files
from .checkpointing.checkpoint import load_checkpoint, remove_leftovers
from .checkpointing.identity import check_identity, run_identity
from .checkpointing.image_changes import changes_since
from .checkpointing.resume import check_steps, find_run, read_latest
from .run import Run

if TYPE_CHECKING:
    from ..config import TrainConfig

__all__ = ["train"]


def train(config: TrainConfig, resume: str | Path | None = None) -> TrainResult:
    """Train a LoRA and write it to files.

    Args:
        config: the whole configuration, paths absolute.
        resume: ``"last"``, a run folder or a checkpoint folder to go on from. Without
            it a new run folder is made; an older one is never written into.

    Returns:
        Where everything is. ``interrupted`` tells a run that was stopped and saved.

    Raises:
        InputError: what was given can not work; raised before anything expensive.
        TrainingError: NaN or infinity, or no memory left.
    """
    started = datetime.datetime.now(datetime.timezone.utc)
    clock = time.monotonic()
    inputs = check_inputs(config)
    report_files(inputs)
    identity = run_identity(config, inputs.family, inputs.targets)
    if resume is None:
        return _new_run(config, inputs, identity, started, clock)
    folder, named = find_run(config, resume)
    with hold_run(folder.root, needed=False):
        remove_leftovers(folder.checkpoints)
        path, checkpoint = (
            (named, load_checkpoint(named)) if named else read_latest(folder)
        )
        check_identity(checkpoint.identity, identity, path)
        check_steps(config, path, checkpoint)
        folder.make_parts()
        for sentence in changes_since(checkpoint, inputs):
            say(sentence)
        say(f"Going on from {path}, step {checkpoint.step} of {config.steps}.")
        run = Run(config, inputs, identity, folder, (path, checkpoint))
        return run.execute(started, clock)


def _new_run(
    config: TrainConfig,
    inputs: Inputs,
    identity: dict[str, Any],
    started: datetime.datetime,
    clock: float,
) -> TrainResult:
    folder = create_run_folder(config.output_dir, config.run_name)
    say(f"Run folder: {folder.root}")
    with hold_run(folder.root, needed=False):
        run = Run(config, inputs, identity, folder, None)
        try:
            run.prepare()
        except (InputError, TrainingError):
            # Nothing was trained: no empty folder stays behind to take the name.
            run.close()
            shutil.rmtree(folder.root, ignore_errors=True)
            raise
        return run.execute(started, clock)
