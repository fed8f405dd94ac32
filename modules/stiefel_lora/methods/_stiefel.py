"""Catalogue entry of Stiefel-LoRA."""

from __future__ import annotations

from ._common import ADAM_OPTIONS, WEIGHT_DECAY
from ._types import Method, Option

__all__ = ["ANGLE_PER_LR", "MOMENTUM", "REST_LR_RATIO", "STIEFEL_LORA"]

PER_FACTOR = ("step", "factors")

# Per A-rule: radians of B per unit of lr, and the AdamW rate of parameters outside
# pairs as a multiple of lr. sign with 0.2 x lr has AdamW's scale; muon's lr is a
# spectral norm, some twenty times AdamW's rate.
ANGLE_PER_LR = {"muon": 0.5, "adamw": 2.0, "sign": 7.0}
REST_LR_RATIO = {"muon": 0.05, "adamw": 1.0, "sign": 1.0}
# Of 0, 0.4, 0.6, 0.8 and 0.9, each with its own best rate, 0.6 had the lowest
# validation loss of the step of the product (docs/evidence.md).
MOMENTUM = {"product": 0.6, "factors": 0.9}

STIEFEL_LORA = Method(
    name="stiefel_lora",
    label="Stiefel LoRA",
    summary="Keeps B orthonormal. The learning rate sets the size of the update of B "
    "A.",
    target="stiefel_lora.optim.stiefel:StiefelLoRA",
    default_lr=2e-2,
    lr_unit="spectral norm of the update of B A (product and muon), same as AdamW "
    "(adamw), or five times the change of an entry (sign)",
    alpha_policy="rank",
    start="stiefel",
    separable=True,
    joint=(("step", "product"),),
    options=(
        Option(
            name="step",
            label="Step",
            type=str,
            default="product",
            older="factors",
            choices=("product", "factors"),
            doc="Update the product B A as a whole (product), or B and A separately "
            "(factors). With product, the learning rate is the spectral norm of "
            "the update of B A. Start with 0.02, or with 0.01 for thousands of "
            "steps. The options of the separate updates (b_rule, a_rule and others) "
            "must keep their defaults, and a fused backward pass is not supported. "
            "With factors, b_rule and a_rule select the updates of B and A. Start "
            "with 0.02. This takes a quarter (rank 16) to two fifths (rank 64) less "
            "time, and a fused backward pass is supported.",
        ),
        Option(
            name="b_rule",
            label="B rule",
            type=str,
            default="spectral",
            choices=("spectral", "momentum"),
            needs=PER_FACTOR,
            doc="Direction of the update of B. With spectral, the tangent momentum "
            "is orthogonalized, so that all directions rotate by the same angle. "
            "With momentum, the tangent momentum is scaled to the length given "
            "by b_length.",
        ),
        Option(
            name="b_length",
            label="B step length",
            type=str,
            default="angle",
            choices=("angle", "rms", "spectral", "raw"),
            needs=PER_FACTOR,
            doc="Length of the update of B if b_rule is momentum. With angle, "
            "the root mean square angle of the columns is angle_per_lr x "
            "learning rate. With spectral, the largest angle has this value. "
            "With rms, the entries have an RMS of 0.2 x learning rate, so B rotates "
            "more in wider layers (as in OneTrainer pull request 1333). With raw, "
            "the length is angle_per_lr x learning rate times the norm of the "
            "gradient (as in the paper).",
        ),
        Option(
            name="retraction",
            label="Retraction",
            type=str,
            default="polar",
            choices=("polar", "qr"),
            needs=PER_FACTOR,
            doc="Retraction that makes the columns of B orthonormal after an update. "
            "Use qr only for comparison with published code, because its result "
            "depends on the order of the columns.",
        ),
        Option(
            name="transport",
            label="Transport momentum",
            type=bool,
            default=True,
            needs=PER_FACTOR,
            doc="Transport the momentum of B to the new tangent space at every step. "
            "If disabled, the momentum is not changed, as in the published code.",
        ),
        Option(
            name="a_rule",
            label="A rule",
            type=str,
            default="muon",
            choices=("muon", "adamw", "sign"),
            needs=PER_FACTOR,
            doc="Optimizer of A. With muon, the learning rate is the spectral norm "
            "of the update of B A. With adamw, it has the same unit as in AdamW. "
            "With sign, the RMS of the update is 0.2 x learning rate.",
        ),
        Option(
            name="angle_per_lr",
            label="Angle of B per learning rate",
            type=float,
            default=None,
            low=0.0,
            optional=True,
            unit="radians",
            needs=PER_FACTOR,
            unset_means="0.5 with muon, 2 with adamw, 7 with sign",
            unset_by=("a_rule", ANGLE_PER_LR),
            doc="Angle in radians by which B rotates per step, as a multiple of the "
            "learning rate.",
        ),
        Option(
            name="momentum",
            label="Momentum",
            type=float,
            default=None,
            low=0.0,
            high=1.0,
            high_open=True,
            optional=True,
            unset_means="0.6 with step=product, 0.9 with step=factors",
            unset_by=("step", MOMENTUM),
            doc="Heavy-ball momentum factor. With step=product, it is used for the "
            "product. With step=factors, it is used for B, and for A if a_rule "
            "is muon or sign. A higher momentum requires a lower learning rate. "
            "For example, halve the learning rate for 0.9 with step=product.",
        ),
        Option(
            name="nesterov",
            label="Nesterov",
            type=bool,
            default=True,
            needs=PER_FACTOR,
            doc="Use Nesterov momentum for B, and for A if a_rule is muon.",
        ),
        Option(
            name="rest_lr_ratio",
            label="Learning rate ratio of other parameters",
            type=float,
            default=None,
            low=0.0,
            optional=True,
            doc="AdamW learning rate of parameters that are not part of a LoRA "
            "pair (DoRA magnitudes, biases), as a multiple of the learning "
            "rate.",
            unset_means="0.05 with muon and with step=product, else 1",
            unset_by=("a_rule", REST_LR_RATIO),
        ),
        WEIGHT_DECAY,
        Option(
            name="decay_rule",
            label="Weight decay rule of A",
            type=str,
            default="adamw",
            choices=("adamw", "over_rank"),
            needs=PER_FACTOR,
            doc="Form of the weight decay of A if a_rule is muon or sign. With "
            "adamw, weight_decay is multiplied by the learning rate. With over_rank, "
            "it is divided by the rank and multiplied by the factor of the learning "
            "rate scheduler (as in OneTrainer pull request 1333).",
        ),
        *ADAM_OPTIONS,
    ),
)
