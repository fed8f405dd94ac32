"""A part of a base model that is a folder with its own settings."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from .from_pretrained import load_part
from .reading import WEIGHT_SUFFIXES, read_json, sample_file

if TYPE_CHECKING:
    from hashlib import _Hash

__all__ = ["FolderPart", "has_weights"]


class FolderPart:
    """A folder of a model in diffusers layout.

    Args:
        parent: folder that holds it.
        part: name of the part.
        name: name of the folder; unset: that of the part.
    """

    def __init__(self, parent: Path, part: str, name: str | None = None) -> None:
        self._parent = parent
        self._part = part
        self._name = name or part

    def config(self) -> dict[str, Any]:
        """Read ``config.json``, or what takes its place for a scheduler."""
        name = "scheduler_config.json" if self._part == "scheduler" else "config.json"
        return read_json(self._parent / self._name / name)

    def load(self, loader: Any, dtype: torch.dtype | None) -> Any:
        """Call ``from_pretrained``."""
        return load_part(self._parent, loader, self._name, dtype)

    def digest_into(self, digest: _Hash) -> None:
        """Feed settings, vocabularies and weights, each with its name and size."""
        for path in sorted((self._parent / self._name).rglob("*")):
            # READMEs and licences do not change what a model computes.
            if path.is_file() and path.suffix in (".json", ".txt", *WEIGHT_SUFFIXES):
                size = path.stat().st_size
                digest.update(f"{self._part}/{path.name}/{size}".encode())
                sample_file(path, digest)


def has_weights(folder: Path) -> bool:
    """Tell whether a folder holds weights; False where there is none."""
    return folder.is_dir() and any(
        path.suffix in WEIGHT_SUFFIXES for path in folder.iterdir()
    )
