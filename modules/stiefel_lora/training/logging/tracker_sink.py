"""Logging to Weights & Biases, Trackio and other trackers of accelerate."""

from __future__ import annotations

import importlib
import importlib.util
import os
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..._exceptions import ConfigError, reason_of
from ..._install import pip_command
from ...config.packages import TRACKER_PACKAGES
from ...runs.progress import say

if TYPE_CHECKING:
    from PIL import Image

    from ...config import TrainConfig

__all__ = ["TrackerSink", "check_trackers"]

_OFFLINE = ("offline", "disabled", "dryrun")


def check_trackers(config: TrainConfig) -> None:
    """Check that trackers are installed and logged in.

    Raises:
        ConfigError: If a tracker cannot be used.
    """
    for name in config.trackers:
        package = TRACKER_PACKAGES.get(name)
        if package is not None and importlib.util.find_spec(package) is None:
            raise ConfigError(
                f"trackers: {name!r} requires the package {package}, which is not "
                f"installed. Install it with: {pip_command(package)}",
                key="trackers",
            )
    if "wandb" in config.trackers and not _is_logged_in():
        raise ConfigError(
            "trackers: wandb is not logged in. Run wandb login, or set the environment "
            "variable WANDB_MODE=offline.",
            key="trackers",
        )


def _is_logged_in() -> bool:
    """Return whether wandb has a key or does not need one, without a prompt."""
    if os.environ.get("WANDB_MODE", "").lower() in _OFFLINE:
        return True
    if os.environ.get("WANDB_API_KEY"):
        return True
    # It reads its own variables and files, and fails in many ways if they are wrong, as
    # does an installation with missing parts.
    try:
        import wandb

        try:
            return bool(wandb.login(prompt=False))
        except TypeError:
            # Versions without this argument ask for a key.
            return bool(wandb.api.api_key)
    except Exception as error:
        raise _not_started("wandb", error) from error


def _not_started(name: str, error: Exception) -> ConfigError:
    return ConfigError(
        f"trackers: {name} cannot be started ({reason_of(error)}). Check its settings, "
        "or remove it.",
        key="trackers",
    )


class TrackerSink:
    """Log scalars, images and the finished LoRA to a tracker.

    If the tracker fails during the run, a message is printed once, and training
    continues. All values are also written to ``events.jsonl``.

    Args:
        name: name of the tracker in accelerate.
        project: name of the project.
        run: name of the run.
        folder: folder for files of the tracker.
        settings: configuration of the run.

    Raises:
        ConfigError: If the tracker cannot be started.
    """

    def __init__(
        self,
        name: str,
        *,
        project: str,
        run: str,
        folder: Path,
        settings: Mapping[str, Any],
    ) -> None:
        self._name = name
        self._tracker: Any = None
        try:
            self._tracker = _start(name, project, run, folder)
            self._tracker.store_init_configuration(dict(settings))
        except Exception as error:
            raise _not_started(name, error) from error

    def event(self, kind: str, step: int, values: Mapping[str, Any]) -> None:
        """Log the finished LoRA files as an artifact. Other events are ignored."""
        if kind == "end":
            files = [Path(file) for file in values["lora_files"]]
            self._use(lambda tracker: _log_files(self._name, tracker, files))

    def scalars(self, kind: str, step: int, values: Mapping[str, float]) -> None:
        """Log values by tag."""
        self._use(lambda tracker: tracker.log(dict(values), step=step))

    def histogram(self, tag: str, step: int, values: Sequence[float]) -> None:
        """Do nothing, because the values are logged as scalars."""

    def image(self, tag: str, step: int, image: Image.Image) -> None:
        """Log an image if the tracker supports images."""
        plain = image.convert("RGB")
        self._use(lambda tracker: _log_image(self._name, tracker, tag, step, plain))

    def close(self) -> None:
        """Finish the run of the tracker."""
        self._use(lambda tracker: tracker.finish())
        self._tracker = None

    def _use(self, action: Callable[[Any], object]) -> None:
        """Call a function with the tracker. After an error, it is no longer used."""
        if self._tracker is None:
            return
        try:
            action(self._tracker)
        except Exception as error:
            self._tracker = None
            say(
                f"{self._name} failed ({reason_of(error)}). The rest of the run is "
                "only logged to events.jsonl and other trackers."
            )


def _start(name: str, project: str, run: str, folder: Path) -> Any:
    from accelerate.tracking import LOGGER_TYPE_TO_CLASS

    kind: Any = LOGGER_TYPE_TO_CLASS[name]
    options: dict[str, Any] = {}
    if kind.requires_logging_directory:
        options["logging_dir"] = str(folder)
    if name == "wandb":
        options |= {"name": run, "group": run, "dir": str(folder)}
    elif name == "trackio":
        options |= {"name": run, "group": run}
    elif name == "mlflow":
        options |= {"run_name": run}
    tracker = kind(**{_first_parameter(name): project}, **options)
    # Versions of accelerate before 1.7 start a tracker when it is created.
    start = getattr(tracker, "start", None)
    if start is not None:
        start()
    return tracker


def _first_parameter(name: str) -> str:
    # The project of wandb and trackio is called run_name in accelerate.
    return "experiment_name" if name == "mlflow" else "run_name"


def _log_image(
    name: str, tracker: Any, tag: str, step: int, image: Image.Image
) -> None:
    if name == "trackio":
        # accelerate has no method for it.
        import trackio

        tracker.log({tag: trackio.Image(image)}, step=step)
    elif hasattr(tracker, "log_images"):
        tracker.log_images({tag: [image]}, step=step)


def _log_files(name: str, tracker: Any, files: Sequence[Path]) -> None:
    """Upload LoRA files as an artifact of the trackers that have artifacts."""
    if not files:
        return
    if name in ("wandb", "trackio"):
        module = importlib.import_module(name)
        artifact = module.Artifact(files[0].stem, type="model")
        for file in files:
            artifact.add_file(str(file))
        tracker.tracker.log_artifact(artifact)
    elif hasattr(tracker, "log_artifact"):
        for file in files:
            tracker.log_artifact(str(file))
