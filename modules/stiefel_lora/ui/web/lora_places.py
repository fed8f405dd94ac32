"""LoRA files and checkpoints that browsers may choose, and places for results."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import quote

from .run_book import RunBook
from .served_images import DatasetRoots

__all__ = ["RESULT_SUFFIXES", "LoraPlaces"]

RESULT_SUFFIXES = (".safetensors", ".json")
"""Suffixes of files that are written as results."""

_SUFFIX = ".safetensors"
# File that makes a folder a checkpoint of diffusers.
_INDEX = "model_index.json"
_DEEPEST = 3
_MOST = 1000


class LoraPlaces:
    """Files below the run folders, the folders with models, and that of results.

    Args:
        runs: run folders.
        models: folders with models.
        results: folder of results that belong to no run.
    """

    def __init__(self, runs: RunBook, models: DatasetRoots, results: Path) -> None:
        self.runs, self.models = runs, models
        self.results = results.expanduser().resolve()

    def files(self) -> dict[str, str]:
        """Return the names of all LoRA files by path. Slow for large folders."""
        found = {}
        for run_dir in self.runs.folders():
            for path in sorted((run_dir / "lora").glob(f"*{_SUFFIX}")):
                found[str(path)] = f"{run_dir.name}: {path.name}"
        for folder in (self.results, *self.models.folders):
            for path in _below(folder):
                if path.suffix.lower() == _SUFFIX and path.is_file():
                    found[str(path)] = _name_of(path, folder)
        return found

    def checkpoints(self) -> dict[str, str]:
        """Return the names of checkpoints by path: files, and folders of diffusers."""
        found = {}
        for folder in self.models.folders:
            for path in _below(folder):
                is_file = path.suffix.lower() == _SUFFIX and path.is_file()
                if is_file or (path / _INDEX).is_file():
                    found[str(path)] = _name_of(path, folder)
        return found

    def output(self, path: Path, ending: str, *, folder: bool = False) -> Path:
        """Return a new path for a result: beside a file of a run, or with the others.

        Args:
            path: input file.
            ending: end of the name.
            folder: whether the result is a folder.
        """
        suffix = "" if folder else _SUFFIX
        place = path.parent if self._is_of_run(path) else self.results
        place.mkdir(parents=True, exist_ok=True)
        for number in range(1, 10_000):
            count = "" if number == 1 else f"-{number}"
            found = place / f"{path.stem}-{ending}{count}{suffix}"
            if not found.exists():
                return found
        return place / f"{path.stem}-{ending}-new{suffix}"

    def downloads(self, output: Path) -> dict[str, str]:
        """Return the URLs of the files of a result by name."""
        paths = sorted(output.iterdir()) if output.is_dir() else [output]
        return {path.name: self._url_of(path) for path in paths if path.is_file()}

    def _url_of(self, path: Path) -> str:
        if path.is_relative_to(self.results):
            place = path.relative_to(self.results).as_posix()
            return f"/lora-files/download/{quote(place)}"
        return self.runs.url_of(path)

    def _is_of_run(self, path: Path) -> bool:
        return any(path.is_relative_to(folder) for folder in self.runs.folders())


def _below(folder: Path) -> Iterator[Path]:
    """Yield files and folders below a folder, without links and hidden ones."""
    count = 0
    for parent, folders, files in os.walk(folder):
        depth = len(Path(parent).relative_to(folder).parts)
        names = [name for name in folders if not name.startswith(".")]
        folders[:] = sorted(names) if depth < _DEEPEST else []
        for name in (*folders, *sorted(files)):
            path = Path(parent, name)
            if path.is_symlink() or name.startswith("."):
                continue
            count += 1
            if count > _MOST:
                return
            yield path


def _name_of(path: Path, folder: Path) -> str:
    return f"{folder.name}: {path.relative_to(folder).as_posix()}"
