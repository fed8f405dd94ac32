"""Catalogue entries of the published methods besides Stiefel-LoRA."""

from __future__ import annotations

from ._common import ADAM_OPTIONS, WEIGHT_DECAY, adam_options
from ._types import Method, Option

__all__ = ["LORA_RITE", "RIEMANNION", "STELLA"]

STELLA = Method(
    name="stella",
    label="StelLA",
    summary="B and the right side of A stay orthonormal; a small matrix S holds size.",
    target="stiefel_lora.optim.stella:StelLA",
    default_lr=5e-4,
    lr_unit="AdamW's own, times 4 to 8",
    alpha_policy="free",
    start="stiefel",
    options=(
        Option(
            name="base_rule",
            label="Base rule",
            type=str,
            default="adam",
            choices=("adam", "sgd", "lion"),
            doc="The Euclidean optimizer whose step is bent onto the manifold. sgd is "
            "heavy-ball momentum with beta1, without damping.",
        ),
        Option(
            name="s_form",
            label="Form of S",
            type=str,
            default="full",
            choices=("full", "diagonal"),
            doc="The matrix between the frames: full as in the paper's tables, or "
            "diagonal as in its released script.",
        ),
        Option(
            name="retraction",
            label="Retraction",
            type=str,
            default="polar",
            choices=("polar", "exponential"),
            doc="How a frame returns to the manifold. polar is cheaper; results are "
            "alike.",
        ),
        WEIGHT_DECAY,
        *ADAM_OPTIONS,
    ),
)

LORA_RITE = Method(
    name="lora_rite",
    label="LoRA-RITE",
    summary="Adaptive steps that do not depend on how the product is factored.",
    target="stiefel_lora.optim.lora_rite:LoRARITE",
    default_lr=2e-4,
    lr_unit="that of an adaptive step in the other factor's basis",
    options=(
        Option(
            name="escape",
            label="Escape",
            type=bool,
            default=False,
            doc="Add the second moment that a turning basis loses to every direction "
            "(in the paper; off in its released code).",
        ),
        Option(
            name="clip_norm",
            label="Clip norm",
            type=float,
            default=1.0,
            low=0.0,
            doc="Largest joint norm of all unmagnified gradients. 0: no clipping.",
        ),
        Option(
            name="skip_above",
            label="Skip above",
            type=float,
            default=1.0,
            low=0.0,
            doc="A factor whose unmagnified gradient has a larger root mean square "
            "takes no step this time. 0: never.",
        ),
        WEIGHT_DECAY,
        *adam_options(eps=1e-6),
    ),
)

RIEMANNION = Method(
    name="riemannion",
    label="Riemannion",
    summary="Orthogonalized momentum in the tangent space of the rank-r matrices.",
    target="stiefel_lora.optim.riemannion:Riemannion",
    default_lr=1e-2,
    lr_unit="spectral norm of the product's step",
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
            doc="Momentum in the tangent space.",
        ),
        Option(
            name="momentum_form",
            label="Momentum form",
            type=str,
            default="raw",
            choices=("raw", "orthogonal"),
            doc="Store the momentum before orthogonalization (raw) or after it. The "
            "paper prints both; after it, gradients weigh little.",
        ),
        Option(
            name="rest_lr_ratio",
            label="Learning rate ratio of other parameters",
            type=float,
            default=0.05,
            low=0.0,
            doc="AdamW learning rate of parameters outside LoRA pairs (DoRA "
            "magnitudes, biases) as a multiple of the learning rate.",
        ),
        WEIGHT_DECAY,
        *ADAM_OPTIONS,
    ),
)
