"""Opening of the base model of a configuration."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch

from ..checkpoints import ModelSource, find_model, quantized_source
from .catalogue import record_of, records

if TYPE_CHECKING:
    from ..config import TrainConfig
    from .protocol import Family

__all__ = ["check_model", "open_family"]


def check_model(config: TrainConfig) -> ModelSource | None:
    """Check the base model without loading its weights.

    Returns:
        Source of its components. None if it has not been downloaded yet.

    Raises:
        ModelError: If a component is missing, damaged or of another family.
    """
    return _find_model(config, download=False)


def open_family(
    config: TrainConfig, device: torch.device, source: ModelSource | None = None
) -> Family:
    """Open the base model of a configuration. Weights are loaded on first use.

    Args:
        config: configuration with the base model.
        device: device of the model.
        source: result of :func:`check_model`, to avoid a second check.

    Raises:
        ModelError: If a component is missing, damaged or of another family.
    """
    source = source or _find_model(config, download=True)
    assert source is not None
    kind = _class_of(config.model_type)
    dtype = getattr(torch, config.plain_weight_dtype)
    if config.weight_dtype != config.plain_weight_dtype:
        source = quantized_source(source, kind.component, config.weight_dtype, device)
    settings = {name: getattr(config, name) for name in kind.facts.settings}
    family = kind(source, dtype, device, **settings)
    family.guidance_scale = config.guidance_scale
    return family


def _class_of(name: str) -> Any:
    record = record_of(name)
    return record.load(record.model)


def _find_model(config: TrainConfig, *, download: bool) -> ModelSource | None:
    facts = [_class_of(record.name).facts for record in records()]
    own = _class_of(config.model_type).facts
    return find_model(config, own, facts, download=download)
