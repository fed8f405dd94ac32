"""Resolution of the paths in a configuration.

A relative path is relative to the folder of its file, or to the current folder when it
comes from the command line. ``~`` is the home folder. ``base_model_name`` and the names
of its parts (``vae_model_name`` ...) may also be names on the Hugging Face Hub. Such a
name is a path when it

* is absolute or starts with ``.`` or ``~``, or
* holds a backslash or more than one slash, or ends in .safetensors, .sft or .ckpt, or
* exists in the folder it is relative to;

everything else ("org/name") is a hub name and stays as it is. Entries of ``plugins``
are paths when they end in .py or contain a slash, otherwise names of modules.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

from ..methods.plugins import is_file_name
from .concept import spell_out_concepts
from .path_text import expanded, looks_like_path, path_problem
from .settings.model import PART_SETTINGS

__all__ = ["MODEL_SETTINGS", "is_local_model", "resolve_model", "resolve_paths"]

MODEL_SETTINGS = ("base_model_name", *(f"{part}_model_name" for part in PART_SETTINGS))


def resolve_paths(data: dict[str, Any], base: Path) -> dict[str, Any]:
    """Make the paths in raw data absolute. Invalid values are left to the schema."""
    data = dict(data)
    for key in ("output_dir", "cache_dir"):
        if data.get(key) and isinstance(data[key], str | Path):
            data[key] = absolute(str(data[key]), base)
    for key in ("concepts", "validation_concepts"):
        if key in data:
            data[key] = _resolve_concepts(data[key], base)
    for key in MODEL_SETTINGS:
        if isinstance(data.get(key), str):
            data[key] = resolve_model(data[key], base)
    if isinstance(data.get("plugins"), list | tuple):
        data["plugins"] = [_resolve_plugin(text, base) for text in data["plugins"]]
    return data


def absolute(path: str, base: Path) -> str:
    """Expand ``~`` and resolve ``..``. Symbolic links are kept."""
    if path_problem(path):
        # The schema rejects it and shows the value; the code below would raise.
        return path
    return os.path.abspath(base / expanded(path))


def resolve_model(name: str, base: Path) -> str:
    """Absolute folder of a base model, or its hub name unchanged."""
    if looks_like_path(name) or (name and os.path.exists(base / name)):
        return absolute(name, base)
    return name


def is_local_model(name: str) -> bool:
    """Distinguish a folder or file from a hub name, after ``resolve_model``."""
    return Path(name).is_absolute()


def _resolve_plugin(value: Any, base: Path) -> Any:
    is_path = isinstance(value, str) and is_file_name(value)
    return absolute(value, base) if is_path else value


def _resolve_concepts(value: Any, base: Path) -> Any:
    value = spell_out_concepts(value)
    if not isinstance(value, list):
        return value
    return [_resolve_concept(item, base) for item in value]


def _resolve_concept(item: Any, base: Path) -> Any:
    if not isinstance(item, dict):
        return item
    paths = {
        key: absolute(str(item[key]), base)
        for key in ("path", "prompt_path")
        if item.get(key) and isinstance(item[key], str | Path)
    }
    return {**item, **paths}
