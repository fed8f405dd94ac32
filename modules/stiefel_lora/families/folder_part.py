"""A part of a base model that is a folder with its own settings."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from .from_pretrained import load_part
from .reading import WEIGHT_SUFFIXES, read_json, sample_file

if TYPE_CHECKING:
    from hashlib import _Hash

__all__ = ["FolderPart"]


class FolderPart:
    """``folder/part`` of a model in diffusers layout."""

    def __init__(self, folder: Path, part: str) -> None:
        self._folder = folder
        self._part = part

    def config(self) -> dict[str, Any]:
        """Read ``config.json``, or what takes its place for a scheduler."""
        name = "scheduler_config.json" if self._part == "scheduler" else "config.json"
        return read_json(self._folder / self._part / name)

    def load(self, loader: Any, dtype: torch.dtype | None) -> Any:
        """Call ``from_pretrained``."""
        return load_part(self._folder, loader, self._part, dtype)

    def digest_into(self, digest: _Hash) -> None:
        """Feed settings, vocabularies and weights, each with its name and size."""
        for path in sorted((self._folder / self._part).rglob("*")):
            # READMEs and licences do not change what a model computes.
            if path.is_file() and path.suffix in (".json", ".txt", *WEIGHT_SUFFIXES):
                size = path.stat().st_size
                digest.update(f"{self._part}/{path.name}/{size}".encode())
                sample_file(path, digest)
