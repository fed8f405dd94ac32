"""One file a model family behind one small protocol."""

from __future__ import annotations

import importlib
from pathlib import Path
from typing import TYPE_CHECKING

import torch

from .base import Batch, Family, Prediction, SampleRequest
from .model_folder import resolve_model

if TYPE_CHECKING:
    from ..config import TrainConfig

__all__ = [
    "Batch",
    "Family",
    "Prediction",
    "SampleRequest",
    "check_model",
    "open_family",
]

_CLASSES = {"sdxl": ("sdxl", "Sdxl")}
"""Name in configurations -> file of this package and class in it."""


def check_model(config: TrainConfig) -> Path | None:
    """Look at the base model before anything expensive.

    Returns:
        The model's folder; None for a name on the hub that is not on this machine yet.

    Raises:
        ModelError: missing, damaged or of another family.
    """
    return resolve_model(config.base_model_name, config.model_type, download=False)


def open_family(config: TrainConfig, device: torch.device) -> Family:
    """Open the base model of a configuration; weights are read when first needed.

    Raises:
        ModelError: missing, damaged or of another family.
    """
    file, kind = _CLASSES[config.model_type]
    family = getattr(importlib.import_module(f".{file}", __name__), kind)
    folder = resolve_model(config.base_model_name, config.model_type, download=True)
    assert folder is not None
    return family(folder, getattr(torch, config.weight_dtype), device)
