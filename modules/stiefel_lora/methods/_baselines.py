"""Catalogue entries of AdamW and its variants."""

from __future__ import annotations

from ._common import ADAM_OPTIONS, WEIGHT_DECAY
from ._factor_decay import FACTOR_DECAY
from ._types import Method, Option

__all__ = ["ADAMW", "ADAMW_8BIT", "LORA_PLUS", "SCALED_ADAMW"]

_LR_UNIT = "same as AdamW: approximate change of a parameter per step"

ADAMW = Method(
    name="adamw",
    label="AdamW",
    summary="AdamW of torch.",
    target="stiefel_lora.optim.adamw:AdamW",
    default_lr=1e-4,
    lr_unit=_LR_UNIT,
    separable=True,
    options=(WEIGHT_DECAY, *FACTOR_DECAY, *ADAM_OPTIONS),
)

ADAMW_8BIT = Method(
    name="adamw_8bit",
    label="AdamW 8-bit",
    summary="AdamW of bitsandbytes with 8-bit moments.",
    target="stiefel_lora.optim.adamw_8bit:EightBitAdamW",
    default_lr=1e-4,
    lr_unit=_LR_UNIT,
    separable=True,
    extra="quant",
    options=(WEIGHT_DECAY, *FACTOR_DECAY, *ADAM_OPTIONS),
)

LORA_PLUS = Method(
    name="lora_plus",
    label="LoRA+",
    summary="AdamW with a higher learning rate for B.",
    target="stiefel_lora.optim.lora_plus:LoRAPlus",
    default_lr=5e-5,
    lr_unit="same as AdamW for A; lr_ratio times as much for B",
    separable=True,
    options=(
        Option(
            name="lr_ratio",
            label="Learning rate ratio of B",
            type=float,
            default=16.0,
            low=0.0,
            low_open=True,
            doc="Learning rate of B as a multiple of the learning rate of A. With "
            "1, the method is the same as AdamW.",
        ),
        WEIGHT_DECAY,
        *FACTOR_DECAY,
        *ADAM_OPTIONS,
    ),
)

SCALED_ADAMW = Method(
    name="scaled_adamw",
    label="Scaled AdamW",
    summary="AdamW with gradients preconditioned by the other factor.",
    target="stiefel_lora.optim.scaled_adamw:ScaledAdamW",
    default_lr=1e-4,
    lr_unit=_LR_UNIT,
    options=(
        Option(
            name="damping",
            label="Damping",
            type=float,
            default=1e-2,
            low=0.0,
            low_open=True,
            doc=(
                "Damping that is added to the Gram matrices before inversion, as a "
                "fraction of their mean eigenvalue. Large values make the method "
                "equal to AdamW."
            ),
        ),
        WEIGHT_DECAY,
        *FACTOR_DECAY,
        *ADAM_OPTIONS,
    ),
)
