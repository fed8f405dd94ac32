"""Search for a LoRA file, or adapters of several models, in a folder."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from torch import Tensor

from ..._exceptions import ModelError
from ..tensors import read_tensors
from ..weights import COMPONENTS
from .peft_file_names import CONFIG, WEIGHTS

__all__ = [
    "MODELS",
    "file_in",
    "models_in",
    "read_models",
    "settings_in",
]

MODELS = (*COMPONENTS, "text_encoder_3")
"""Names of the folders of a LoRA of several models."""

# File name of diffusers' ``save_lora_weights``.
_DIFFUSERS = "pytorch_lora_weights.safetensors"
_ROOT = "base_model.model."


def file_in(folder: Path) -> Path | None:
    """Return the LoRA file in a folder, or None if it has a subfolder for each model.

    Raises:
        ModelError: If the folder does not contain a LoRA.
    """
    for name in (WEIGHTS, _DIFFUSERS):
        if (folder / name).is_file():
            return folder / name
    if models_in(folder):
        return None
    raise ModelError(
        f"{folder} contains neither {WEIGHTS} nor {_DIFFUSERS}. Use a LoRA file or "
        "a PEFT folder."
    )


def models_in(folder: Path) -> list[str]:
    """Return the names of the models that have an adapter in a folder."""
    return [name for name in MODELS if (folder / name / WEIGHTS).is_file()]


def read_models(
    folder: Path,
) -> tuple[dict[str, Tensor], dict[str, str], dict[str, Any], int]:
    """Read the adapters of all models.

    Returns:
        Tensors with the model in their keys, metadata, settings by model, and total
        size of the files in bytes.
    """
    tensors: dict[str, Tensor] = {}
    settings: dict[str, Any] = {}
    metadata: dict[str, str] = {}
    size = 0
    for name in models_in(folder):
        path = folder / name / WEIGHTS
        own, metadata = read_tensors(path)
        tensors |= {
            f"{_ROOT}{name}.{key.removeprefix(_ROOT)}": t for key, t in own.items()
        }
        config = settings_in(folder / name)
        settings |= {f"{name}.{key}": value for key, value in config.items()}
        size += path.stat().st_size
    return tensors, metadata, settings, size


def settings_in(folder: Path) -> dict[str, Any]:
    """Read the ``peft.LoraConfig`` arguments in a folder. Empty if there are none.

    Raises:
        OSError: If the file cannot be read.
        ValueError: If the file is not a JSON object.
    """
    path = folder / CONFIG
    if not path.is_file():
        return {}
    found = json.loads(path.read_text("utf-8"))
    if not isinstance(found, dict):
        raise ValueError(f"{CONFIG} is not a JSON object")
    return found
