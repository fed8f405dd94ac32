"""Catalogue entries of the optimizers that users compare with."""

from __future__ import annotations

from ._common import ADAM_OPTIONS, WEIGHT_DECAY
from ._types import Method

__all__ = ["ADAMW"]

ADAMW = Method(
    name="adamw",
    label="AdamW",
    summary="Torch's own AdamW on A and B alike.",
    target="stiefel_lora.optim.adamw:AdamW",
    default_lr=1e-4,
    separable=True,
    options=(WEIGHT_DECAY, *ADAM_OPTIONS),
)
