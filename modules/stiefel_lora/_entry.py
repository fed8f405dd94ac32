"""Load, train and judge errors: shared by the command line and the worker of a queue.

Imports no torch and no typer before they are needed.
"""

from __future__ import annotations

import contextlib
import logging
import os
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from ._exceptions import ConfigError, InputError, TrainingError

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
) -> TrainResult:
    """Train the run that a config file or preset describes.

    Args:
        config: path of a file, or name of a preset.
        overrides: ``KEY=VALUE``, as ``--set`` takes them.
        resume: ``"last"``, a run folder or a checkpoint folder.
        plugins: files or modules that hold optimizers.

    Raises:
        InputError: an input that cannot work; raised before anything expensive.
        TrainingError: NaN or infinity, or out of memory.
    """
    with _naming_plugins(config, overrides, resume):
        settings = load(config, overrides, plugins)
    from .config import check_complete

    check_complete(settings)
    hush_libraries()
    # torch is imported by the first use of ``train``, after every check that can do
    # without it.
    from . import training

    if resume is not None:
        resume = _run_meant(config, resume)
    return training.train(settings, resume=resume)


def outcome_of(error: BaseException) -> tuple[str, int] | None:
    """Message and exit code of an error; None for a fault of the program itself."""
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
                f"This needs the package {package}, which is not installed: "
                f'pip install "stiefel-lora[train]".',
                BAD_INPUT,
            )
    return None


def load(
    config: str, overrides: Sequence[str] | None, plugins: Sequence[str] | None = None
) -> TrainConfig:
    """Read and check a config file or preset, its paths included."""
    from .config import check_paths, load_config
    from .config.presets import find_config

    settings = load_config(find_config(config), overrides or (), plugins or ())
    check_paths(settings)
    return settings


def hush_libraries() -> None:
    """Hide remarks of libraries on packages that this program does not use.

    They are printed on import, before anything about the user's settings.
    """
    os.environ.setdefault("TRANSFORMERS_VERBOSITY", "error")
    logging.getLogger("bitsandbytes").setLevel(logging.ERROR)


@contextlib.contextmanager
def _naming_plugins(
    config: str, overrides: Sequence[str], resume: str | None
) -> Iterator[None]:
    """Add to an error the plug-ins that the run to resume was started with."""
    try:
        yield
    except ConfigError as error:
        found = _plugins_of_run(config, overrides, resume) if resume else []
        missing = [text for text in found if text not in str(error)]
        if not missing:
            raise
        options = " ".join(f"--plugin {text}" for text in missing)
        raise ConfigError(
            f"{error} The run to resume was started with {options}."
        ) from error


def _plugins_of_run(config: str, overrides: Sequence[str], resume: str) -> list[str]:
    """Plug-ins of the run to resume; none where it cannot be found."""
    from .config import load_config
    from .config.presets import find_config
    from .runs.run_folder import existing_run_folders, plugins_in

    if resume != "last":
        place = Path(resume).resolve()
        # A checkpoint is two folders below its run.
        return plugins_in(place) or plugins_in(place.parent.parent)
    without = ["optimizer.name=adamw", "lora_init=auto", "plugins=[]"]
    # The method of a plug-in is unknown before the plug-in is loaded.
    try:
        settings = load_config(find_config(config), [*overrides, *without])
    except ConfigError:
        return []
    runs = existing_run_folders(settings.output_dir, settings.run_name)
    return next((plugins_in(run.root) for run in runs if run.has_checkpoint), [])


def _run_meant(config: str, resume: str) -> str:
    """Value of ``--resume``: a configuration inside a run's folder selects that run.

    Raises:
        ConfigError: the configuration is of one run and the checkpoint of another.
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
            f"--resume {resume} belongs to another run than {config}, which is the "
            f"configuration of {own.root}. Give the config.json of the run to resume, "
            f"or a copy outside of a run's folder."
        )
    return resume
