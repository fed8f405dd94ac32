"""Catalogue entries of published Riemannian and basis-invariant methods."""

from __future__ import annotations

from ._common import ADAM_OPTIONS, WEIGHT_DECAY, adam_options
from ._types import Method, Option

__all__ = ["LORA_RITE", "RIEMANNION", "STELLA"]

STELLA = Method(
    name="stella",
    label="StelLA",
    summary="Trains B A as U S V^T, where the columns of U and V stay orthonormal.",
    target="stiefel_lora.optim.stella:StelLA",
    default_lr=5e-4,
    lr_unit="4 to 8 times the learning rate of AdamW",
    alpha_policy="free",
    start="stiefel",
    options=(
        Option(
            name="base_rule",
            label="Base rule",
            type=str,
            default="adam",
            choices=("adam", "sgd", "lion"),
            doc="Optimizer whose update is projected onto the manifold. sgd uses "
            "heavy-ball momentum with beta1 as momentum factor and without "
            "damping.",
        ),
        Option(
            name="s_form",
            label="Form of S",
            type=str,
            default="full",
            choices=("full", "diagonal"),
            doc="Form of the matrix S between U and V. The paper uses a full matrix in "
            "its experiments, and the released code a diagonal one.",
        ),
        Option(
            name="retraction",
            label="Retraction",
            type=str,
            default="polar",
            choices=("polar", "exponential"),
            doc="Retraction that makes the columns of U and V orthonormal after an "
            "update. polar is faster, with similar results.",
        ),
        WEIGHT_DECAY,
        *ADAM_OPTIONS,
    ),
)

LORA_RITE = Method(
    name="lora_rite",
    label="LoRA-RITE",
    summary="Adaptive updates of A and B that do not depend on the factorization of "
    "the product B A.",
    target="stiefel_lora.optim.lora_rite:LoRARITE",
    default_lr=2e-4,
    lr_unit="size of adaptive updates in the basis of the other factor",
    options=(
        Option(
            name="escape",
            label="Escape",
            type=bool,
            default=False,
            doc="Add the part of the second moment that is lost in a change of basis "
            "(escaped mass) to all directions. The paper does this, but the "
            "released code does not.",
        ),
        Option(
            name="clip_norm",
            label="Clip norm",
            type=float,
            default=1.0,
            low=0.0,
            doc="Maximum joint norm of all unmagnified gradients. 0 disables clipping.",
        ),
        Option(
            name="skip_above",
            label="Skip above",
            type=float,
            default=1.0,
            low=0.0,
            doc="A factor is not updated if the root mean square of its unmagnified "
            "gradient exceeds this value. 0 disables this check.",
        ),
        WEIGHT_DECAY,
        *adam_options(eps=1e-6),
    ),
)

RIEMANNION = Method(
    name="riemannion",
    label="Riemannion",
    summary="Orthogonalized momentum in the tangent space of the product B A.",
    target="stiefel_lora.optim.riemannion:Riemannion",
    default_lr=1e-2,
    lr_unit="spectral norm of the update of B A",
    alpha_policy="rank",
    start="riemannion",
    options=(
        Option(
            name="momentum",
            label="Momentum",
            type=float,
            default=0.9,
            low=0.0,
            high=1.0,
            high_open=True,
            doc="Momentum factor.",
        ),
        Option(
            name="momentum_form",
            label="Momentum form",
            type=str,
            default="raw",
            choices=("raw", "orthogonal"),
            doc="Store the momentum before it is orthogonalized (raw) or afterwards "
            "(orthogonal). The paper describes both variants. With the second one, the "
            "current gradient has little weight.",
        ),
        Option(
            name="rest_lr_ratio",
            label="Learning rate ratio of other parameters",
            type=float,
            default=0.05,
            low=0.0,
            doc="AdamW learning rate of parameters that are not part of a LoRA "
            "pair (DoRA magnitudes, biases), as a multiple of the learning "
            "rate.",
        ),
        WEIGHT_DECAY,
        *ADAM_OPTIONS,
    ),
)
