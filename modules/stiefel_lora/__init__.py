"""Train LoRAs for diffusion models with optimizers that know their geometry.

Public names are imported on first use, so that ``import stiefel_lora`` costs nothing
and parts that need no torch (config, catalogue, command line) never load it.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

from ._exceptions import (
    CheckpointError,
    ConfigError,
    DataError,
    InputError,
    ModelError,
    NonFiniteError,
    OptionError,
    OutputError,
    PairingError,
    StiefelLoraError,
    TrainingError,
)
from ._version import __version__

if TYPE_CHECKING:
    from .geometry import effective_rank
    from .optim import AdamW, StiefelLoRA, create_optimizer, find_pairs, init_stiefel_

__all__ = [
    "AdamW",
    "CheckpointError",
    "ConfigError",
    "DataError",
    "InputError",
    "ModelError",
    "NonFiniteError",
    "OptionError",
    "OutputError",
    "PairingError",
    "StiefelLoRA",
    "StiefelLoraError",
    "TrainingError",
    "__version__",
    "create_optimizer",
    "effective_rank",
    "find_pairs",
    "init_stiefel_",
]

_LAZY = {
    "AdamW": "optim",
    "StiefelLoRA": "optim",
    "create_optimizer": "optim",
    "effective_rank": "geometry",
    "find_pairs": "optim",
    "init_stiefel_": "optim",
}


def __getattr__(name: str) -> Any:
    if name not in _LAZY:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = getattr(importlib.import_module(f".{_LAZY[name]}", __name__), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted(__all__)
