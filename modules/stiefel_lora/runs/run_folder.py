"""The folder of one run, the same for command line, batch runner and GUI.

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
    "create_run_folder",
    "existing_run_folders",
    "plugins_in",
    "run_of_config",
]

NOTES_AND_PLACES = frozenset(
    {"comment", "run_name", "output_dir", "cache_dir", "device"}
)
"""Settings without influence on what a run computes: notes, and where it is."""

_PARTS = ("tensorboard", "samples", "checkpoints", "lora", "commands")


@dataclasses.dataclass(frozen=True)
class RunFolder:
    """Paths inside a run's folder."""

    root: Path

    @property
    def config_file(self) -> Path:
        """The whole configuration as it was resolved."""
        return self.root / "config.json"

    @property
    def events_file(self) -> Path:
        """One JSON object a line; watchers tail it."""
        return self.root / "events.jsonl"

    @property
    def tensorboard(self) -> Path:
        """Event files of TensorBoard."""
        return self.root / "tensorboard"

    @property
    def samples(self) -> Path:
        """Sample pictures."""
        return self.root / "samples"

    @property
    def checkpoints(self) -> Path:
        """Folders ``step-N`` to resume from."""
        return self.root / "checkpoints"

    @property
    def lora(self) -> Path:
        """Finished LoRA files."""
        return self.root / "lora"

    @property
    def abandoned(self) -> Path:
        """What a resume from an older checkpoint moved aside; made when needed."""
        return self.root / "abandoned"

    @property
    def commands(self) -> Path:
        """Where orders to the running job are dropped."""
        return self.root / "commands"

    @property
    def has_checkpoint(self) -> bool:
        """Whether there is one to go on from.

        One that was being replaced when its process was killed counts: it is put back.
        """
        saved = [*self.checkpoints.glob("step-*"), *self.checkpoints.glob(".*-older*")]
        return any((path / "state.json").is_file() for path in saved)

    def make_parts(self) -> None:
        """Make the folders inside.

        Raises:
            OutputError: they can not be made.
        """
        try:
            for part in _PARTS:
                (self.root / part).mkdir(exist_ok=True)
        except OSError as error:
            raise _refused(self.root, error) from error


def create_run_folder(output_dir: Path, run_name: str) -> RunFolder:
    """Make ``output_dir/run_name``; where it exists, ``run_name-2``, ``-3`` and so on.

    An older run is never written into: going on with it takes ``resume``.

    Raises:
        OutputError: the folder can not be made.
    """
    for root in _names(output_dir, run_name):
        try:
            root.mkdir(parents=True)
        except FileExistsError:
            if output_dir.exists() and not output_dir.is_dir():
                raise OutputError(
                    f"output_dir {output_dir} is a file; name a folder."
                ) from None
        except OSError as error:
            raise _refused(root, error) from error
        else:
            folder = RunFolder(root)
            folder.make_parts()
            return folder
    raise AssertionError("unreachable: the names do not end")


def existing_run_folders(output_dir: Path, run_name: str) -> list[RunFolder]:
    """All runs of this name, the one that began last first.

    Numbers may have gaps, and a new run takes the first that is free; a folder whose
    configuration gives it another name, as ``cat-2`` may have, is another run.
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
    """The run in whose folder a configuration lies; None elsewhere."""
    folder = RunFolder(path.absolute().parent)
    is_one = folder.events_file.is_file() or folder.has_checkpoint
    return folder if is_one and path.name == folder.config_file.name else None


def plugins_in(root: Path) -> list[str]:
    """Plug-ins in the folder's configuration; none where it cannot be read."""
    found = _config_inside(root).get("plugins")
    return [str(text) for text in found] if isinstance(found, list) else []


def _name_inside(root: Path) -> object:
    """``run_name`` in the folder's configuration; None where it cannot be read."""
    return _config_inside(root).get("run_name")


def _config_inside(root: Path) -> dict[str, Any]:
    try:
        found = json.loads(read_text(root / "config.json"))
    except (OSError, ValueError, RecursionError):
        return {}
    return found if isinstance(found, dict) else {}


def _began(folder: RunFolder) -> float:
    """Time of the first event, seconds since 1970; 0 where there is none."""
    for event in read_events(folder.events_file):
        began = event.get("time")
        return float(began) if isinstance(began, int | float) else 0.0
    return 0.0


def _names(output_dir: Path, run_name: str) -> itertools.chain[Path]:
    later = (output_dir / f"{run_name}-{number}" for number in itertools.count(2))
    return itertools.chain([output_dir / run_name], later)


def _refused(root: Path, error: OSError) -> OutputError:
    return OutputError(
        f"The run folder {root} can not be written ({error.strerror}); set output_dir "
        f"to a folder where you may write."
    )
