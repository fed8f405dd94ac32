"""Catalogue entries of published Riemannian and basis-invariant methods."""

from __future__ import annotations

from ._common import ADAM_OPTIONS, WEIGHT_DECAY, adam_options
from ._types import Method, Option

__all__ = ["LORA_RITE", "RIEMANNION", "STELLA"]

STELLA = Method(
    name="stella",
    label="StelLA",
    summary="The left and right factors stay orthonormal, with a small matrix S "
    "between them.",
    target="stiefel_lora.optim.stella:StelLA",
    default_lr=5e-4,
    lr_unit="4 to 8 times AdamW's",
    alpha_policy="free",
    start="stiefel",
    options=(
        Option(
            name="base_rule",
            label="Base rule",
            type=str,
            default="adam",
            choices=("adam", "sgd", "lion"),
            doc="Euclidean optimizer whose step is mapped onto the manifold. sgd "
            "uses heavy-ball momentum with beta1 and without damping.",
        ),
        Option(
            name="s_form",
            label="Form of S",
            type=str,
            default="full",
            choices=("full", "diagonal"),
            doc="Form of the matrix between the orthonormal factors. It is full in "
            "the tables of the paper and diagonal in the released script.",
        ),
        Option(
            name="retraction",
            label="Retraction",
            type=str,
            default="polar",
            choices=("polar", "exponential"),
            doc="Retraction that maps a factor back to the manifold. polar is "
            "cheaper, and the results are similar.",
        ),
        WEIGHT_DECAY,
        *ADAM_OPTIONS,
    ),
)

LORA_RITE = Method(
    name="lora_rite",
    label="LoRA-RITE",
    summary="A and B take adaptive steps that do not depend on how the product is "
    "factored.",
    target="stiefel_lora.optim.lora_rite:LoRARITE",
    default_lr=2e-4,
    lr_unit="an adaptive step in the basis of the other factor",
    options=(
        Option(
            name="escape",
            label="Escape",
            type=bool,
            default=False,
            doc="Add the part of the second moment that is lost in a change of "
            "basis to every direction. The paper does this, but the released "
            "code does not.",
        ),
        Option(
            name="clip_norm",
            label="Clip norm",
            type=float,
            default=1.0,
            low=0.0,
            doc="Maximum joint norm of all unmagnified gradients. Set to 0 to "
            "disable clipping.",
        ),
        Option(
            name="skip_above",
            label="Skip above",
            type=float,
            default=1.0,
            low=0.0,
            doc="Skip the step of a factor if the root mean square of its "
            "unmagnified gradient exceeds this value. If 0, no step is "
            "skipped.",
        ),
        WEIGHT_DECAY,
        *adam_options(eps=1e-6),
    ),
)

RIEMANNION = Method(
    name="riemannion",
    label="Riemannion",
    summary="The product takes steps of orthogonalized momentum in its tangent space.",
    target="stiefel_lora.optim.riemannion:Riemannion",
    default_lr=1e-2,
    lr_unit="spectral norm of the step of the product",
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
            doc="Momentum factor in the tangent space.",
        ),
        Option(
            name="momentum_form",
            label="Momentum form",
            type=str,
            default="raw",
            choices=("raw", "orthogonal"),
            doc="Store the momentum before (raw) or after (orthogonal) "
            "orthogonalization. The paper gives both forms. With orthogonal, "
            "gradients have little weight.",
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
