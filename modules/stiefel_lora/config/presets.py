"""Ready-made configurations that come with the package.

They lie in ``training_presets/<FAMILY>/`` of the repository, which an installed package
holds as ``stiefel_lora.presets``. A preset's name is that of its file without ending.
"""

from __future__ import annotations

import dataclasses
import importlib.util
from pathlib import Path

from .._exceptions import ConfigError
from .loading import read_json
from .suggestions import nearest

__all__ = ["Preset", "find_config", "list_presets", "presets_folder"]

PACKAGE = "stiefel_lora.presets"
REPOSITORY_FOLDER = Path(__file__).parents[3] / "training_presets"


@dataclasses.dataclass(frozen=True)
class Preset:
    """A preset file: its name, model family, place, and comment for people.

    The comment's first sentence says what the preset is for, the rest where its values
    come from.
    """

    name: str
    family: str
    path: Path
    comment: str

    @property
    def summary(self) -> str:
        """First sentence of the comment."""
        return self.comment.partition(". ")[0].rstrip(".") + "."


def presets_folder() -> Path:
    """The folder with one folder of presets a model family.

    Raises:
        ConfigError: a broken installation that has no presets.
    """
    spec = importlib.util.find_spec(PACKAGE)
    installed = list(spec.submodule_search_locations or []) if spec else []
    for folder in (*map(Path, installed), REPOSITORY_FOLDER):
        if folder.is_dir():
            return folder
    raise ConfigError(
        "The presets are missing from this installation: install stiefel-lora again."
    )


def list_presets() -> list[Preset]:
    """All presets, sorted by family and name.

    Raises:
        ConfigError: a preset file that is not JSON.
    """
    files = sorted(presets_folder().glob("*/*.json"))
    return [
        Preset(
            path.stem, path.parent.name, path, str(read_json(path).get("comment", ""))
        )
        for path in files
    ]


def find_config(name: str | Path) -> Path:
    """The file that ``name`` means: a path, or else the name of a preset.

    Raises:
        ConfigError: neither; the nearest preset is named.
    """
    path = Path(name).expanduser()
    if path.exists():
        return path
    known = {preset.name: preset.path for preset in list_presets()}
    if str(name) in known:
        return known[str(name)]
    near = nearest(path.stem, known)
    hint = f"did you mean the preset {near}?" if near else f"{', '.join(known)}."
    lead = "" if near else "the presets are "
    raise ConfigError(f"There is no file {name}; {lead}{hint}")
