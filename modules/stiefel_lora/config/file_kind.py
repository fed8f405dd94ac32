"""Messages about files and folders that are not config files.

They are used after a file could not be read as a config file, so that a config file
with an unusual name is still accepted.
"""

from __future__ import annotations

import mimetypes
import os
from pathlib import Path

from .._wording import quoted

__all__ = ["other_kind"]

_WEIGHTS = (".safetensors", ".ckpt", ".pt", ".pth", ".bin", ".gguf")
# Image formats that mimetypes does not know in all versions of Python.
_IMAGES = (".webp", ".avif", ".heic", ".jxl")
_OF_OTHERS = (".txt", ".toml", ".yaml", ".yml", ".sh", ".bat", ".ps1")
_CONFIG = "a config file or the name of a preset"


def other_kind(path: Path, *, wanted: str = _CONFIG) -> str | None:
    """Describe what a path is instead of a config file, and what to use.

    Args:
        path: path that was given.
        wanted: kind of file that is required. Advice about own config files is only
            given if they are.

    Returns:
        A message about folders, empty files, images, model weights and configs of
        other trainers. None for other files.
    """
    if os.path.isdir(path):
        return _folder(path, wanted)
    if not os.path.isfile(path):
        return None
    kind = path.suffix.lower()
    required = f"but {wanted} is required."
    if kind in _WEIGHTS:
        return (
            f"{path} is a file with model weights, {required} To show a LoRA file, "
            f'use: stiefel-lora lora inspect "{path}"'
        )
    found, advice = "", ""
    if kind in _IMAGES or (mimetypes.guess_type(path)[0] or "").startswith("image/"):
        found = "an image"
        advice = (
            "Write one for the images of a folder with: stiefel-lora new --images "
            f'"{path.parent}"'
        )
    elif not os.path.getsize(path):
        found = "empty"
        advice = (
            "Write a config file with stiefel-lora new, or choose one of stiefel-lora "
            "presets."
        )
    elif kind in _OF_OTHERS and wanted == _CONFIG:
        found = "not a JSON file"
        advice = (
            "Convert the config of another trainer with: stiefel-lora import "
            f"{quoted(path)}"
        )
    if not found:
        return None
    return f"{path} is {found}, {required}" + (
        f" {advice}" if wanted == _CONFIG else ""
    )


def _folder(path: Path, wanted: str) -> str:
    required = f"{path} is a folder, but {wanted} is required."
    own = path / "config.json"
    # Text files in folders are captions.
    others = [kind for kind in _OF_OTHERS if kind != ".txt" and wanted != _CONFIG]
    kinds = (".json", *others)
    inside = sorted(each for each in path.glob("*.*") if each.suffix.lower() in kinds)
    if os.path.isfile(own):
        inside = [own]
    if inside:
        return f"{required} Use a file in it, such as {inside[0]}"
    if wanted != _CONFIG:
        return required
    return (
        f"{required} Write one for the images in it with: "
        f'stiefel-lora new --images "{path}"'
    )
