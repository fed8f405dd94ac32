"""Catalogue entries of methods whose learning rate is a spectral norm."""

from __future__ import annotations

from ._common import ADAM_OPTIONS, WEIGHT_DECAY
from ._types import Method, Option

__all__ = ["LORA_MUON", "LORA_TSD", "POLORA"]

_LR_UNIT = "maximum spectral norm of the update of B A"

_MOMENTUM = Option(
    name="momentum",
    label="Momentum",
    default=0.9,
    low=0.0,
    high=1.0,
    high_open=True,
    doc="Momentum factor of A and B.",
)
_REST_LR_RATIO = Option(
    name="rest_lr_ratio",
    label="Learning rate ratio of other parameters",
    default=0.05,
    low=0.0,
    doc="AdamW learning rate of parameters that are not part of a LoRA pair (DoRA "
    "magnitudes, biases), as a multiple of the learning rate.",
)

LORA_MUON = Method(
    name="lora_muon",
    label="LoRA-Muon",
    summary="Orthogonalized updates of A and B, each in the metric of the other "
    "factor.",
    target="stiefel_lora.optim.lora_muon:LoRAMuon",
    default_lr=1e-2,
    lr_unit=_LR_UNIT,
    alpha_policy="rank",
    options=(
        _MOMENTUM,
        Option(
            name="growth",
            label="Maximum relative change",
            default=0.5,
            low=0.0,
            low_open=True,
            doc="Maximum relative change of A and B per step. No direction of a "
            "factor changes by more than this multiple of its current length. "
            "This limits updates as long as the product B A is small.",
        ),
        _REST_LR_RATIO,
        WEIGHT_DECAY,
        *ADAM_OPTIONS,
    ),
)

POLORA = Method(
    name="polora",
    label="PoLoRA",
    summary="Orthogonalized updates of A and B, preconditioned by a diagonal "
    "curvature.",
    target="stiefel_lora.optim.polora:PoLoRA",
    default_lr=1e-2,
    lr_unit=_LR_UNIT,
    alpha_policy="rank",
    options=(
        _MOMENTUM,
        Option(
            name="curvature_decay",
            label="Curvature decay",
            default=0.99,
            low=0.0,
            high=1.0,
            high_open=True,
            doc="Decay rate of the running averages of the input and output curvature.",
        ),
        Option(
            name="curvature_damping",
            label="Curvature damping",
            default=1e-4,
            low=0.0,
            low_open=True,
            doc="Damping that is added to the curvature, as a fraction of its "
            "largest entry, and to the Gram matrices, as a fraction of their "
            "largest eigenvalue.",
        ),
        _REST_LR_RATIO,
        WEIGHT_DECAY,
        *ADAM_OPTIONS,
    ),
)

LORA_TSD = Method(
    name="lora_tsd",
    label="LoRA-TSD",
    summary="Spectral descent in the tangent space of the product B A.",
    target="stiefel_lora.optim.lora_tsd:LoRATSD",
    default_lr=5e-3,
    lr_unit="spectral norm of the update of B A",
    alpha_policy="rank",
    options=(
        Option(
            name="tau",
            label="Tau",
            default=1,
            low=1,
            high=8,
            doc="Number of rounds of orthogonalization and projection onto the "
            "tangent space.",
        ),
        Option(
            name="trust_region",
            label="Trust region",
            default=0.1,
            low=0.0,
            low_open=True,
            doc="Maximum Frobenius norm of the update of B A.",
        ),
        _MOMENTUM,
        _REST_LR_RATIO,
        WEIGHT_DECAY,
        *ADAM_OPTIONS,
    ),
)
