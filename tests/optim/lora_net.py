"""Small LoRA models and a training task, from the package's own testing tools."""

from __future__ import annotations

from stiefel_lora.testing.nets import (
    LoraLinear,
    LoraNet,
    backward,
    products,
    snapshot,
    task,
    train,
)

__all__ = [
    "LoraLinear",
    "LoraNet",
    "backward",
    "products",
    "snapshot",
    "task",
    "train",
]
