"""One file a model family behind one small protocol."""

from __future__ import annotations

import importlib
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from .._exceptions import ModelError
from .base import Batch, Family, Prediction, SampleRequest
from .facts import FamilyFacts
from .model_folder import check_folder, from_hub
from .source import ModelSource, folder_source

if TYPE_CHECKING:
    from ..config import TrainConfig

__all__ = [
    "Batch",
    "Family",
    "FamilyFacts",
    "ModelSource",
    "Prediction",
    "SampleRequest",
    "check_model",
    "folder_source",
    "open_family",
]

_CLASSES = {"sdxl": ("sdxl", "Sdxl")}
"""Name in configurations -> file of this package and class in it."""


def check_model(config: TrainConfig) -> ModelSource | None:
    """Look at the base model before anything expensive.

    Returns:
        Where its parts are; None for a name on the hub that is not on this machine yet.

    Raises:
        ModelError: missing, damaged or of another family.
    """
    return _find_model(config, download=False)


def open_family(config: TrainConfig, device: torch.device) -> Family:
    """Open the base model of a configuration; weights are read when first needed.

    Raises:
        ModelError: missing, damaged or of another family.
    """
    source = _find_model(config, download=True)
    assert source is not None
    dtype = getattr(torch, config.weight_dtype)
    family = _class_of(config.model_type)(source, dtype, device)
    family.guidance_scale = config.guidance_scale
    return family


def _class_of(name: str) -> Any:
    file, kind = _CLASSES[name]
    return getattr(importlib.import_module(f".{file}", __name__), kind)


def _find_model(config: TrainConfig, *, download: bool) -> ModelSource | None:
    folder = _find_folder(config.base_model_name, download)
    if folder is None:
        return None
    facts = {name: _class_of(name).facts for name in _CLASSES}
    check_folder(folder, facts[config.model_type], list(facts.values()))
    return folder_source(folder, facts[config.model_type].parts)


def _find_folder(name: str | None, download: bool) -> Path | None:
    if not name:
        raise ModelError(
            "base_model_name is not set; give a folder in diffusers layout or a name "
            "on the Hugging Face hub."
        )
    folder = Path(name)
    if folder.is_file():
        raise ModelError(
            f"The base model {folder} is a single file; give a folder in diffusers "
            f"layout (StableDiffusionXLPipeline.from_single_file(...)."
            f"save_pretrained(...) makes one)."
        )
    return folder if folder.is_dir() else from_hub(name, download=download)
