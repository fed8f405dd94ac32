"""Messages about files and folders that are not config files.

They are used after a file could not be read as a config file, so that a config file
with an unusual name is still accepted.
"""

from __future__ import annotations

import mimetypes
import os
from pathlib import Path

__all__ = ["other_kind"]

_WEIGHTS = (".safetensors", ".ckpt", ".pt", ".pth", ".bin", ".gguf")
# Image formats that mimetypes does not know in all versions of Python.
_IMAGES = (".webp", ".avif", ".heic", ".jxl")
_OF_OTHERS = (".txt", ".toml", ".yaml", ".yml", ".sh", ".bat", ".ps1")
_REQUIRED = "but a config file or the name of a preset is required"


def other_kind(path: Path, *, importing: bool = False) -> str | None:
    """Describe what a path is instead of a config file, and what to use.

    Args:
        path: path that was given.
        importing: whether a config of another trainer was expected.

    Returns:
        A message about folders, empty files, images, model weights and configs of
        other trainers. None for other files.
    """
    if os.path.isdir(path):
        return _folder(path)
    if not os.path.isfile(path):
        return None
    kind = path.suffix.lower()
    if kind in _WEIGHTS:
        return (
            f"{path} is a file with model weights, {_REQUIRED}. To show a LoRA file, "
            f'use: stiefel-lora lora inspect "{path}"'
        )
    if kind in _IMAGES or (mimetypes.guess_type(path)[0] or "").startswith("image/"):
        return (
            f"{path} is an image, {_REQUIRED}. Write one for the images of a folder "
            f'with: stiefel-lora new --images "{path.parent}"'
        )
    if not os.path.getsize(path):
        return (
            f"{path} is empty, {_REQUIRED}. Write a config file with stiefel-lora new, "
            "or choose one of stiefel-lora presets."
        )
    if kind in _OF_OTHERS and not importing:
        return (
            f"{path} is not a JSON file, {_REQUIRED}. Convert the config of another "
            f'trainer with: stiefel-lora import "{path}"'
        )
    return None


def _folder(path: Path) -> str:
    own = path / "config.json"
    inside = [own] if os.path.isfile(own) else sorted(path.glob("*.json"))
    if inside:
        return f"{path} is a folder, {_REQUIRED}. Use a file in it, such as {inside[0]}"
    return (
        f"{path} is a folder, {_REQUIRED}. Write one for the images in it with: "
        f'stiefel-lora new --images "{path}"'
    )
