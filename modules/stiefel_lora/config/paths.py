"""Resolution of the paths in a configuration.

Relative paths are relative to the folder of the config file, or to the current folder
if they are given on the command line. ``~`` is the home folder. ``base_model_name`` and
the names of components (``vae_model_name``, ...) can also be names on the Hugging Face
Hub. They are paths if they

* are absolute or start with ``.`` or ``~``,
* contain a backslash or more than one slash, or end with .safetensors, .sft or .ckpt,
* or exist on disk.

Other names ("org/name") are names on the Hub. Entries of ``plugins`` are paths if they
end with .py or contain a slash. Otherwise they are names of modules.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

from .._weighted_path import split_weight
from ..methods.plugins import is_file_name
from .concept import spell_out_concepts
from .path_text import expanded, looks_like_path, path_problem
from .settings.model import PART_SETTINGS

__all__ = ["MODEL_SETTINGS", "is_local_model", "resolve_model", "resolve_paths"]

MODEL_SETTINGS = ("base_model_name", *(f"{part}_model_name" for part in PART_SETTINGS))


def resolve_paths(data: dict[str, Any], base: Path) -> dict[str, Any]:
    """Make the paths in settings absolute. Invalid values are not changed."""
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
    if "lora_model_name" in data:
        data["lora_model_name"] = _resolve_loras(data["lora_model_name"], base)
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
    """Return the absolute path of a base model, or its name on the Hugging Face Hub."""
    if looks_like_path(name) or (name and os.path.exists(base / name)):
        return absolute(name, base)
    return name


def is_local_model(name: str) -> bool:
    """Return whether a base model is a folder or file, after :func:`resolve_model`."""
    return Path(name).is_absolute()


def _resolve_loras(value: Any, base: Path) -> Any:
    """Resolve one path, or a list of paths, that may end in a weight."""
    texts = [value] if isinstance(value, str) else value
    if not isinstance(texts, list | tuple) or not all(
        isinstance(text, str) for text in texts
    ):
        return value
    found = []
    for text in texts:
        path, weight = split_weight(text)
        found.append(absolute(path, base) + weight if path else text)
    return found


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
