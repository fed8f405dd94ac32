"""Layout of run folders.

``<output_dir>/<run_name>/{config.json, events.jsonl, tensorboard/, samples/,
checkpoints/step-N/, lora/, commands/}``
"""

from __future__ import annotations

import dataclasses
import itertools
import json
import re
from pathlib import Path
from typing import Any

from .._exceptions import OutputError
from .._text import read_text
from .events import read_events

__all__ = [
    "NOTES_AND_PLACES",
    "RunFolder",
    "config_of_run",
    "create_run_folder",
    "existing_run_folders",
    "plugins_in",
    "run_of_config",
]

NOTES_AND_PLACES = frozenset(
    {"comment", "run_name", "output_dir", "cache_dir", "device"}
)
"""Settings that do not affect the results, such as comments and paths."""

_PARTS = ("tensorboard", "samples", "checkpoints", "lora", "commands")


@dataclasses.dataclass(frozen=True)
class RunFolder:
    """Paths in a run folder."""

    root: Path

    @property
    def config_file(self) -> Path:
        """Complete resolved configuration."""
        return self.root / "config.json"

    @property
    def events_file(self) -> Path:
        """Events, one JSON object per line."""
        return self.root / "events.jsonl"

    @property
    def tensorboard(self) -> Path:
        """TensorBoard event files."""
        return self.root / "tensorboard"

    @property
    def samples(self) -> Path:
        """Sample images."""
        return self.root / "samples"

    @property
    def checkpoints(self) -> Path:
        """Checkpoint folders ``step-N``."""
        return self.root / "checkpoints"

    @property
    def lora(self) -> Path:
        """Finished LoRA files."""
        return self.root / "lora"

    @property
    def abandoned(self) -> Path:
        """Files of abandoned branches, moved when the run was resumed."""
        return self.root / "abandoned"

    @property
    def commands(self) -> Path:
        """Command files for the running training."""
        return self.root / "commands"

    @property
    def has_checkpoint(self) -> bool:
        """True if there is a checkpoint to resume from.

        This includes a checkpoint that was being replaced when the process was killed.
        """
        saved = [*self.checkpoints.glob("step-*"), *self.checkpoints.glob(".*-older*")]
        return any((path / "state.json").is_file() for path in saved)

    def make_parts(self) -> None:
        """Create the subfolders.

        Raises:
            OutputError: If the folders cannot be created.
        """
        try:
            for part in _PARTS:
                (self.root / part).mkdir(exist_ok=True)
        except OSError as error:
            raise _refused(self.root, error) from error


def create_run_folder(output_dir: Path, run_name: str) -> RunFolder:
    """Create a run folder ``run_name``, or ``run_name-2``, ``-3``, ... if it exists.

    Raises:
        OutputError: If the folder cannot be created.
    """
    for root in _names(output_dir, run_name):
        try:
            root.mkdir(parents=True)
        except FileExistsError:
            if output_dir.exists() and not output_dir.is_dir():
                raise OutputError(
                    f"output_dir: {output_dir} is a file. Use a folder."
                ) from None
        except OSError as error:
            raise _refused(root, error) from error
        else:
            folder = RunFolder(root)
            folder.make_parts()
            return folder
    raise AssertionError("unreachable: the names do not end")


def existing_run_folders(output_dir: Path, run_name: str) -> list[RunFolder]:
    """Return all run folders of a run name, most recently started first.

    The numbers in the folder names can have gaps. A folder such as ``cat-2`` whose
    configuration has another ``run_name`` is not included.
    """
    pattern = re.compile(re.escape(run_name) + r"(?:-(\d+))?")
    found = []
    for root in output_dir.iterdir() if output_dir.is_dir() else ():
        match = pattern.fullmatch(root.name)
        if match and root.is_dir() and _name_inside(root) in (None, run_name):
            folder = RunFolder(root)
            found.append((_began(folder), int(match[1] or 1), folder))
    return [folder for *_, folder in sorted(found, key=lambda f: f[:2], reverse=True)]


def run_of_config(path: Path) -> RunFolder | None:
    """Return the run folder that contains a configuration file, or None."""
    folder = RunFolder(path.absolute().parent)
    is_one = folder.events_file.is_file() or folder.has_checkpoint
    return folder if is_one and path.name == folder.config_file.name else None


def config_of_run(place: Path) -> Path | None:
    """Return the config.json of a run, given its folder or that of a checkpoint."""
    place = place.absolute()
    # A checkpoint is two levels below its run folder.
    for root in (place, place.parent.parent):
        path = RunFolder(root).config_file
        if path.is_file() and run_of_config(path):
            return path
    return None


def plugins_in(root: Path) -> list[str]:
    """Return the plugins in the configuration of a run folder, if it can be read."""
    found = _config_inside(root).get("plugins")
    return [str(text) for text in found] if isinstance(found, list) else []


def _name_inside(root: Path) -> object:
    """Return ``run_name`` from the configuration of a run folder, or None."""
    return _config_inside(root).get("run_name")


def _config_inside(root: Path) -> dict[str, Any]:
    try:
        found = json.loads(read_text(root / "config.json"))
    except (OSError, ValueError, RecursionError):
        return {}
    return found if isinstance(found, dict) else {}


def _began(folder: RunFolder) -> float:
    """Return the time of the first event of a run in seconds since 1970, or 0."""
    for event in read_events(folder.events_file):
        began = event.get("time")
        return float(began) if isinstance(began, int | float) else 0.0
    return 0.0


def _names(output_dir: Path, run_name: str) -> itertools.chain[Path]:
    later = (output_dir / f"{run_name}-{number}" for number in itertools.count(2))
    return itertools.chain([output_dir / run_name], later)


def _refused(root: Path, error: OSError) -> OutputError:
    return OutputError(
        f"output_dir: the run folder {root} is not writable ({error.strerror}). Set "
        "output_dir to a writable folder."
    )
