"""One file a model family behind one small protocol."""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

import torch

from ..checkpoints import ModelSource, find_model, quantised_source
from .protocol import Batch, Family, Prediction, SampleRequest

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

_CLASSES = {
    "flux": ("flux", "Flux"),
    "sd15": ("sd15", "Sd15"),
    "sdxl": ("sdxl", "Sdxl"),
}
"""Name in configurations -> file of this package and class in it."""


def check_model(config: TrainConfig) -> ModelSource | None:
    """Look at the base model before anything expensive.

    Returns:
        Where its parts are; None for a name on the hub that is not on this machine yet.

    Raises:
        ModelError: missing, damaged or of another family.
    """
    return _find_model(config, download=False)


def open_family(
    config: TrainConfig, device: torch.device, source: ModelSource | None = None
) -> Family:
    """Open the base model of a configuration; weights are read when first needed.

    Args:
        config: names the base model.
        device: where it computes.
        source: what ``check_model`` returned, so that nothing is examined twice.

    Raises:
        ModelError: missing, damaged or of another family.
    """
    source = source or _find_model(config, download=True)
    assert source is not None
    kind = _class_of(config.model_type)
    dtype = getattr(torch, config.plain_weight_dtype)
    if config.weight_dtype != config.plain_weight_dtype:
        source = quantised_source(source, kind.component, config.weight_dtype, device)
    settings = {name: getattr(config, name) for name in kind.facts.settings}
    family = kind(source, dtype, device, **settings)
    family.guidance_scale = config.guidance_scale
    return family


def _class_of(name: str) -> Any:
    file, kind = _CLASSES[name]
    return getattr(importlib.import_module(f".{file}", __name__), kind)


def _find_model(config: TrainConfig, *, download: bool) -> ModelSource | None:
    facts = {name: _class_of(name).facts for name in _CLASSES}
    return find_model(
        config, facts[config.model_type], list(facts.values()), download=download
    )
