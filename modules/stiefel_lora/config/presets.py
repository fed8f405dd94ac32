"""Presets of the package.

They are in ``training_presets/<FAMILY>/`` of the repository, and in
``stiefel_lora.presets`` of an installed package. The name of a preset is the name of
its file without suffix.
"""

from __future__ import annotations

import dataclasses
import importlib.util
import os
import re
from pathlib import Path

from .._exceptions import ConfigError
from .path_text import expanded
from .reading import read_json
from .suggestions import nearest

__all__ = [
    "Preset",
    "find_config",
    "find_preset",
    "list_presets",
    "presets_folder",
    "select_presets",
]

PACKAGE = "stiefel_lora.presets"
_RECOMMENDED = "stiefel_lora"
REPOSITORY_FOLDER = Path(__file__).parents[3] / "training_presets"


@dataclasses.dataclass(frozen=True)
class Preset:
    """Preset file.

    Attributes:
        name: name of the file without suffix.
        family: folder of the preset, which is the model family.
        path: path of the file.
        comment: description of the preset. The first sentence is a summary.
        optimizer: name of the optimizer.
    """

    name: str
    family: str
    path: Path
    comment: str
    optimizer: str
    installed: bool = True
    """False for a demo whose model is not part of this installation."""

    @property
    def memory_gb(self) -> int | None:
        """GPU memory in GB for which the preset is made, or None."""
        found = re.search(r"_(\d+)gb$", self.name)
        return int(found[1]) if found else None

    @property
    def summary(self) -> str:
        """First sentence of the comment."""
        return self.comment.partition(". ")[0].rstrip(".") + "."


def presets_folder() -> Path:
    """Return the folder with the presets, which has a subfolder for each family.

    Raises:
        ConfigError: If the presets are missing from the installation.
    """
    spec = importlib.util.find_spec(PACKAGE)
    installed = list(spec.submodule_search_locations or []) if spec else []
    for folder in (*map(Path, installed), REPOSITORY_FOLDER):
        if folder.is_dir():
            return folder
    raise ConfigError(
        "The presets are missing from this installation. Reinstall stiefel-lora."
    )


def list_presets() -> list[Preset]:
    """List all presets, sorted by family, GPU memory and optimizer.

    Presets of a demo that is not installed are included.

    Raises:
        ConfigError: If a preset is not valid JSON.
    """
    found = [_read(path) for path in presets_folder().glob("*/*.json")]
    return sorted(found, key=_place)


def select_presets(
    family: str | None = None, optimizer: str | None = None, vram: int | None = None
) -> list[Preset]:
    """List the presets of a family, for an optimizer, and for a GPU.

    In each family, those for the default optimizer come first among presets for GPUs of
    the same size. Presets of a demo that is not installed are left out.

    Args:
        family: family of the base model, or None for all.
        optimizer: name of the optimizer, or None for all.
        vram: GPU memory in GB that must be enough, or None.

    Raises:
        ConfigError: If no preset matches.
    """
    chosen = [preset for preset in list_presets() if preset.installed]
    for what, wanted in (("family", family), ("optimizer", optimizer)):
        if wanted is None:
            continue
        known = sorted({getattr(preset, what) for preset in chosen})
        chosen = [p for p in chosen if getattr(p, what).lower() == wanted.lower()]
        if not chosen:
            raise ConfigError(
                f"There is no preset with the {what} {wanted!r}. Available: "
                f"{', '.join(known)}."
            )
    if vram is not None:
        sizes = sorted({p.memory_gb for p in chosen if p.memory_gb})
        chosen = [p for p in chosen if p.memory_gb is None or p.memory_gb <= vram]
        if not any(p.memory_gb for p in chosen):
            raise ConfigError(
                f"There is no preset for a GPU with {vram} GB. Available: "
                f"{', '.join(map(str, sizes))} GB."
            )
    return sorted(
        chosen,
        key=lambda p: (p.family, p.memory_gb or 0, p.optimizer != _RECOMMENDED),
    )


def find_config(name: str | Path) -> Path:
    """Return the path of a config file or preset.

    A folder is only returned if there is no preset of that name: the folder of a run
    has the name of its preset.

    Raises:
        ConfigError: If neither a file nor a preset with this name exists.
    """
    path = expanded(name)
    if os.path.isdir(path):
        known = {preset.name: preset.path for preset in list_presets()}
        return known.get(str(name), path)
    return path if os.path.exists(path) else find_preset(name)


def find_preset(name: str | Path) -> Path:
    """Return the path of a preset.

    Raises:
        ConfigError: If the preset does not exist.
    """
    known = {preset.name: preset.path for preset in list_presets()}
    if str(name) in known:
        return known[str(name)]
    near = nearest(Path(name).stem, known)
    hint = (
        f"Did you mean the preset {near}?"
        if near
        else "Run stiefel-lora presets to list all presets."
    )
    raise ConfigError(f"The file {name} does not exist. {hint}")


def _read(path: Path) -> Preset:
    data = read_json(path)
    optimizer = data.get("optimizer")
    name = optimizer.get("name") if isinstance(optimizer, dict) else None
    comment = str(data.get("comment", ""))
    # Full-size presets name a model on the hub, demos one beside them.
    model = str(data.get("base_model_name", ""))
    missing = model.startswith(".") and not (path.parent / model).exists()
    return Preset(
        path.stem, path.parent.name, path, comment, str(name or ""), not missing
    )


def _place(preset: Preset) -> tuple[str, int, str, str]:
    return preset.family, preset.memory_gb or 0, preset.optimizer, preset.name
