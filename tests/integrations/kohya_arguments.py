"""The namespace of arguments that kohya's trainers hand to a network."""

from __future__ import annotations

import types
from typing import Any

__all__ = ["RANK", "arguments"]

RANK = 4


def arguments(**changes: Any) -> types.SimpleNamespace:
    """The usual ones; alpha is 1 unless the user sets it."""
    given = {
        "network_module": "stiefel_lora.integrations.HOST",
        "optimizer_type": "stiefel_lora.StiefelLoRA",
        "network_dim": RANK,
        "network_alpha": 1,
        "network_weights": None,
        "learning_rate": 2e-2,
        "scale_weight_norms": None,
        "seed": 3,
        "max_train_steps": 12,
    }
    return types.SimpleNamespace(**given | changes)
