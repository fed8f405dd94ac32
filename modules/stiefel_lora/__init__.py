"""Training of LoRAs for diffusion models with geometry-aware optimizers.

Public names are imported on first use, so that ``import stiefel_lora`` does not import
torch.
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
    QueueError,
    StiefelLoraError,
    TrainingError,
)
from ._version import __version__

if TYPE_CHECKING:
    from .geometry import effective_rank
    from .methods import Option
    from .optim import (
        AdamW,
        LoRAMuon,
        LoraOptimizer,
        LoRAPlus,
        LoRARITE,
        LoRATSD,
        PairOptimizer,
        ParamGroup,
        PoLoRA,
        Riemannion,
        Rule,
        ScaledAdamW,
        StelLA,
        StiefelLoRA,
        WhitenedLoRA,
        create_optimizer,
        find_pairs,
        init_loi_,
        init_lora_,
        init_riemannion_,
        init_stella_,
        init_stiefel_,
        orthonormalize_,
        register,
    )
    from .optim.adamw_8bit import EightBitAdamW as EightBitAdamW

# EightBitAdamW is missing: import * and help() would fail without bitsandbytes.
__all__ = [
    "AdamW",
    "CheckpointError",
    "ConfigError",
    "DataError",
    "InputError",
    "LoRAMuon",
    "LoRAPlus",
    "LoRARITE",
    "LoRATSD",
    "LoraOptimizer",
    "ModelError",
    "NonFiniteError",
    "Option",
    "OptionError",
    "OutputError",
    "PairOptimizer",
    "PairingError",
    "ParamGroup",
    "PoLoRA",
    "QueueError",
    "Riemannion",
    "Rule",
    "ScaledAdamW",
    "StelLA",
    "StiefelLoRA",
    "StiefelLoraError",
    "TrainingError",
    "WhitenedLoRA",
    "__version__",
    "create_optimizer",
    "effective_rank",
    "find_pairs",
    "init_loi_",
    "init_lora_",
    "init_riemannion_",
    "init_stella_",
    "init_stiefel_",
    "orthonormalize_",
    "register",
]

_LAZY = {
    "AdamW": "optim",
    "EightBitAdamW": "optim.adamw_8bit",
    "LoRAPlus": "optim",
    "LoRARITE": "optim",
    "WhitenedLoRA": "optim",
    "PoLoRA": "optim",
    "LoRATSD": "optim",
    "LoRAMuon": "optim",
    "LoraOptimizer": "optim",
    "Option": "methods",
    "PairOptimizer": "optim",
    "ParamGroup": "optim",
    "Riemannion": "optim",
    "Rule": "optim",
    "ScaledAdamW": "optim",
    "StelLA": "optim",
    "StiefelLoRA": "optim",
    "create_optimizer": "optim",
    "effective_rank": "geometry",
    "find_pairs": "optim",
    "init_loi_": "optim",
    "init_lora_": "optim",
    "init_riemannion_": "optim",
    "init_stella_": "optim",
    "init_stiefel_": "optim",
    "orthonormalize_": "optim",
    "register": "optim",
}


def __getattr__(name: str) -> Any:
    if name not in _LAZY:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = getattr(importlib.import_module(f".{_LAZY[name]}", __name__), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted(__all__)
