"""Catalogue entry of whitened LoRA."""

from __future__ import annotations

from ._common import ADAM_OPTIONS, WEIGHT_DECAY
from ._types import Method, Option

__all__ = ["WHITENED_LORA"]

WHITENED_LORA = Method(
    name="whitened_lora",
    label="Whitened LoRA",
    summary="Keeps B orthonormal, with whitened adaptive updates of A and B.",
    target="stiefel_lora.optim.whitened_lora:WhitenedLoRA",
    default_lr=1e-3,
    lr_unit="RMS of the update of A",
    alpha_policy="rank",
    start="stiefel",
    options=(
        Option(
            name="longest_turn",
            label="Maximum rotation of B",
            default=0.3,
            low=0.0,
            high=1.0,
            low_open=True,
            doc="Tangent of the maximum angle by which B rotates per step.",
        ),
        WEIGHT_DECAY,
        *ADAM_OPTIONS,
    ),
)
