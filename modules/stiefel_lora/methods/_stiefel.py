"""Catalogue entry of Stiefel-LoRA."""

from __future__ import annotations

from ._common import ADAM_OPTIONS, WEIGHT_DECAY
from ._types import Method, Option

__all__ = ["STIEFEL_LORA"]

PER_FACTOR = ("step", "factors")

STIEFEL_LORA = Method(
    name="stiefel_lora",
    label="Stiefel LoRA",
    summary="B stays orthonormal; each step moves the product B A by a set length.",
    target="stiefel_lora.optim.stiefel:StiefelLoRA",
    default_lr=2e-2,
    lr_unit="product step and muon: spectral norm of the product's step; adamw: "
    "AdamW's own; sign: five times the size of an entry's step",
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
            doc="product: one step of the product B A, whose spectral norm is the "
            "learning rate (start with 0.02, or 0.01 for thousands of steps); the "
            "rules of B and A, Nesterov and angle_per_lr are not used, and a fused "
            "backward pass is not possible. factors: B is rotated and A is moved, each "
            "by its own rule (start with 0.02); a third cheaper, and a fused backward "
            "pass is possible.",
        ),
        Option(
            name="b_rule",
            label="B rule",
            type=str,
            default="spectral",
            choices=("spectral", "momentum"),
            needs=PER_FACTOR,
            doc="Direction of the rotation of B. spectral: all directions of the "
            "tangent momentum rotate by the same angle; momentum: the tangent momentum "
            "itself, scaled to b_length.",
        ),
        Option(
            name="b_length",
            label="B step length",
            type=str,
            default="angle",
            choices=("angle", "rms", "spectral", "raw"),
            needs=PER_FACTOR,
            doc="Length of the rotation of B with b_rule momentum. angle: the root "
            "mean square angle of the columns is angle_per_lr x learning rate; "
            "spectral: the largest angle is; rms: entries with RMS 0.2 x learning rate "
            "(the pull request's rule; wider layers rotate more); raw: angle_per_lr x "
            "learning rate times the norm of the gradient (the paper's rule).",
        ),
        Option(
            name="retraction",
            label="Retraction",
            type=str,
            default="polar",
            choices=("polar", "qr"),
            needs=PER_FACTOR,
            doc="Map of B back to the manifold. qr is for comparison with published "
            "code: its result depends on the order of B's columns.",
        ),
        Option(
            name="transport",
            label="Transport momentum",
            type=bool,
            default=True,
            needs=PER_FACTOR,
            doc="Transport B's momentum to the new tangent space at every step. Off: "
            "it is left as it is (published code).",
        ),
        Option(
            name="a_rule",
            label="A rule",
            type=str,
            default="muon",
            choices=("muon", "adamw", "sign"),
            needs=PER_FACTOR,
            doc="Optimizer of A. muon: the learning rate is the spectral norm of the "
            "product's step; adamw: AdamW's own unit; sign: RMS 0.2 x learning rate.",
        ),
        Option(
            name="angle_per_lr",
            label="B angle per learning rate",
            type=float,
            default=None,
            low=0.0,
            optional=True,
            unit="radians",
            needs=PER_FACTOR,
            unset_means="0.5 with muon, 2 with adamw, 7 with sign",
            doc="B rotates by angle_per_lr x learning rate radians per step.",
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
            doc="Heavy-ball momentum of B, and of A with muon and sign; with "
            "step=product, of the product. More momentum needs a lower learning rate: "
            "0.9 with step=product half of it.",
        ),
        Option(
            name="nesterov",
            label="Nesterov",
            type=bool,
            default=True,
            needs=PER_FACTOR,
            doc="Nesterov momentum (for B, and for A with muon).",
        ),
        Option(
            name="rest_lr_ratio",
            label="Learning rate ratio of other parameters",
            type=float,
            default=None,
            low=0.0,
            optional=True,
            doc="AdamW learning rate of parameters outside LoRA pairs (DoRA "
            "magnitudes, biases) as a multiple of the learning rate.",
            unset_means="0.05 with muon and with step=product, else 1",
        ),
        WEIGHT_DECAY,
        Option(
            name="decay_rule",
            label="Decay rule of A",
            type=str,
            default="adamw",
            choices=("adamw", "over_rank"),
            needs=PER_FACTOR,
            doc="Weight decay of A with muon and sign. adamw: multiplied by the "
            "learning rate; over_rank: weight_decay / rank, scaled by the schedule "
            "only (the pull request's rule).",
        ),
        *ADAM_OPTIONS,
    ),
)
