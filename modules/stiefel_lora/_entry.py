"""Training of a config file with error messages, for the command line and the queue."""

from __future__ import annotations

import contextlib
import logging
import os
import sys
import warnings
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from ._exceptions import ConfigError, InputError, TrainingError
from ._install import install_command
from ._late_bitsandbytes import postpone_bitsandbytes

if TYPE_CHECKING:
    from .config import TrainConfig
    from .runs.result import TrainResult

__all__ = [
    "BAD_INPUT",
    "FAILURE",
    "INTERRUPTED",
    "hush_libraries",
    "load",
    "outcome_of",
    "train_file",
]

FAILURE, BAD_INPUT, INTERRUPTED = 1, 2, 130

_PACKAGE = __name__.partition(".")[0]


def train_file(
    config: str,
    overrides: Sequence[str] = (),
    resume: str | None = None,
    plugins: Sequence[str] = (),
    check_every: int = 0,
) -> TrainResult:
    """Train a config file or preset.

    Args:
        config: path of a config file, or name of a preset.
        overrides: ``KEY=VALUE`` settings as for ``--set``.
        resume: ``"last"``, a run folder or a checkpoint folder.
        plugins: files or modules that define optimizers.
        check_every: interval in steps at which several processes are compared, or 0.

    Raises:
        InputError: If an input is invalid. Inputs are checked before a model is loaded.
        TrainingError: If the loss or a weight contains NaN or infinity, or memory is
            exhausted.
    """
    with _naming_plugins(config, overrides, resume):
        settings = load(config, overrides, plugins)
    from .config import check_complete

    check_complete(settings)
    hush_libraries()
    postpone_bitsandbytes()
    # The first use of ``train`` imports torch, so everything without torch comes first.
    from . import training

    if resume is not None:
        resume = _run_meant(config, resume)
    return training.train(settings, resume=resume, check_every=check_every)


def outcome_of(error: BaseException) -> tuple[str, int] | None:
    """Return the message and exit code of an error. None for unexpected errors."""
    if isinstance(error, InputError):
        return str(error), BAD_INPUT
    if isinstance(error, TrainingError):
        return str(error), FAILURE
    if isinstance(error, KeyboardInterrupt):
        return "Interrupted.", INTERRUPTED
    if isinstance(error, ModuleNotFoundError):
        package = (error.name or "").partition(".")[0]
        if package not in ("", _PACKAGE):
            return (
                f"This requires the package {package}, which is not installed. "
                f"Install it with: {install_command('train')}",
                BAD_INPUT,
            )
    return None


def load(
    config: str, overrides: Sequence[str] | None, plugins: Sequence[str] | None = None
) -> TrainConfig:
    """Load a config file or preset, and check its paths."""
    from .config import check_paths, load_config
    from .config.presets import find_config

    settings = load_config(find_config(config), overrides or (), plugins or ())
    check_paths(settings)
    return settings


def hush_libraries() -> None:
    """Suppress messages of libraries about optional packages and about each other.

    Log levels and filters of warnings that were set by the user are not changed.
    """
    os.environ.setdefault("TRANSFORMERS_VERBOSITY", "error")
    logging.getLogger("bitsandbytes").setLevel(logging.ERROR)
    if not sys.warnoptions:
        # Only libraries read this attribute of models of transformers.
        warnings.filterwarnings(
            "ignore", ".*is_gradient_checkpointing.* is deprecated", FutureWarning
        )


@contextlib.contextmanager
def _naming_plugins(
    config: str, overrides: Sequence[str], resume: str | None
) -> Iterator[None]:
    """Add the plugins of the run to resume to an error message."""
    try:
        yield
    except ConfigError as error:
        found = _plugins_of_run(config, overrides, resume) if resume else []
        missing = [text for text in found if text not in str(error)]
        if not missing:
            raise
        options = " ".join(f"--plugin {text}" for text in missing)
        raise ConfigError(
            f"{error} The run was started with {options}. Add this option to resume it."
        ) from error


def _plugins_of_run(config: str, overrides: Sequence[str], resume: str) -> list[str]:
    """Return the plugins of the run to resume. Empty if the run is not found."""
    from .config import load_config
    from .config.presets import find_config
    from .runs.run_folder import existing_run_folders, plugins_in

    if resume != "last":
        place = Path(resume).resolve()
        # A checkpoint is two levels below its run folder.
        return plugins_in(place) or plugins_in(place.parent.parent)
    without = ["optimizer.name=adamw", "lora_init=auto", "plugins=[]"]
    # The method of a plugin is unknown before the plugin is loaded.
    try:
        settings = load_config(find_config(config), [*overrides, *without])
    except ConfigError:
        return []
    runs = existing_run_folders(settings.output_dir, settings.run_name)
    return next((plugins_in(run.root) for run in runs if run.has_checkpoint), [])


def _run_meant(config: str, resume: str) -> str:
    """Return the value of ``--resume``, or the run folder of a config.json.

    Raises:
        ConfigError: If the configuration and the checkpoint belong to different runs.
    """
    from .config.presets import find_config
    from .runs.run_folder import run_of_config

    own = run_of_config(find_config(config))
    if own is None:
        return resume
    if resume == "last":
        return str(own.root)
    named = Path(resume).resolve()
    if own.root.resolve() not in (named, *named.parents):
        raise ConfigError(
            f"--resume {resume} is a run of {own.root}, which was not started with "
            f"{config}. Use the config.json of the run, or a copy of it outside of "
            "the run folder."
        )
    return resume
