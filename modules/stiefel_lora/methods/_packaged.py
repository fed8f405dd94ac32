"""Catalogue entries of optimizers of other packages.

Options have the names of the packages, except that tuples such as ``betas`` are several
options. Defaults are those of the packages. The classes have more options, which are
passed by ``options`` of the configuration.
"""

from __future__ import annotations

from ._adv_optm import ADAMW_ADV, ADOPT_ADV, LION_ADV, PRODIGY_ADV, SIGNSGD_ADV
from ._packaged_options import (
    ADAMW_UNIT,
    BETA3,
    BETAS,
    CORRECTION,
    D0,
    D_COEF,
    EXTRA,
    FACTOR,
    GROWTH,
    PRODIGY_STEPS,
    SAFEGUARD,
    SLICE,
    beta,
    betas,
    count,
    decay,
    eps,
    flag,
    positive,
)
from ._types import Option, PackagedMethod

__all__ = ["PACKAGED"]

_PRODIGY = PackagedMethod(
    name="prodigy",
    label="Prodigy",
    summary="Adam with an estimated learning rate (package prodigyopt).",
    target="prodigyopt:Prodigy",
    default_lr=1.0,
    lr_unit=FACTOR,
    extra=EXTRA,
    packed=BETAS,
    has_estimate=True,
    one_rate=True,
    options=(
        *betas(0.9, 0.999),
        BETA3,
        eps(1e-8),
        *decay(),
        flag(
            "decouple",
            True,
            "Decoupled weight decay",
            "Decoupled weight decay as in AdamW, instead of an L2 penalty.",
        ),
        CORRECTION,
        SAFEGUARD,
        D0,
        D_COEF,
        GROWTH,
        count("slice_p", 1, "Slice", SLICE, low=1),
    ),
)

_PRODIGY_PLUS = PackagedMethod(
    name="prodigy_plus_schedule_free",
    label="Prodigy Plus Schedule-Free",
    summary="Prodigy and schedule-free averaging (package prodigy-plus-schedule-free).",
    target="prodigyplus:ProdigyPlusScheduleFree",
    default_lr=1.0,
    lr_unit=FACTOR,
    extra=EXTRA,
    packed=BETAS,
    has_estimate=True,
    schedule_free="use_schedulefree",
    options=(
        *betas(0.9, 0.99),
        BETA3,
        eps(1e-8),
        *decay(),
        D0,
        D_COEF,
        flag(
            "d_limiter", True, "D limiter", "Limit the growth of the estimate per step."
        ),
        PRODIGY_STEPS,
        flag(
            "split_groups",
            True,
            "Split groups",
            "Estimate the learning rate of every trained component separately.",
        ),
        flag(
            "use_schedulefree",
            True,
            "Use schedule-free",
            "Average weights instead of using a learning rate schedule.",
        ),
        Option(
            name="schedulefree_c",
            label="Schedule-free C",
            type=float,
            default=0.0,
            low=0.0,
            doc="Strength of the averaging. 0 is the same as 1 / (1 - beta1).",
        ),
        flag(
            "use_stableadamw",
            True,
            "Use StableAdamW",
            "Scale updates by their root mean square, instead of clipping gradients.",
        ),
        flag(
            "factored",
            True,
            "Factored state",
            "Store the second moment as factors, which needs less memory.",
        ),
        CORRECTION,
        flag("use_speed", False, "Use SPEED", "Another estimate (experimental)."),
    ),
)

_ADAFACTOR = PackagedMethod(
    name="adafactor",
    label="Adafactor",
    summary="Adam with a factored second moment (package transformers).",
    target="transformers.optimization:Adafactor",
    default_lr=1e-4,
    lr_unit=ADAMW_UNIT,
    packed={"eps": ("eps", "eps2")},
    # The rate of relative steps is not one of the groups, which schedules change.
    fixed={"relative_step": False},
    options=(
        Option(
            name="beta1",
            label="Beta1",
            type=float,
            default=None,
            low=0.0,
            high=1.0,
            high_open=True,
            optional=True,
            unset_means="no running average",
            doc="Decay rate of the running average of the update.",
        ),
        Option(
            name="decay_rate",
            label="Decay rate",
            type=float,
            default=-0.8,
            low=-1.0,
            high=0.0,
            high_open=True,
            doc="Exponent of the decay of the second moment, in steps.",
        ),
        positive(
            "clip_threshold",
            1.0,
            "Clip threshold",
            "Largest root mean square of an update.",
        ),
        eps(1e-30),
        positive("eps2", 1e-3, "EPS 2", "Smallest scale with scale_parameter."),
        *decay(),
        flag(
            "scale_parameter",
            False,
            "Scale parameter",
            "Multiply the learning rate by the root mean square of the parameter.",
        ),
    ),
)

_CAME = PackagedMethod(
    name="came",
    label="CAME",
    summary="Adafactor guided by its confidence (package came-pytorch).",
    target="came_pytorch:CAME",
    default_lr=1e-4,
    lr_unit=ADAMW_UNIT,
    extra=EXTRA,
    packed={"betas": ("beta1", "beta2", "beta3"), "eps": ("eps", "eps2")},
    options=(
        beta("beta1", 0.9, "Decay rate of the running average of the update."),
        beta("beta2", 0.999),
        beta("beta3", 0.9999, "Decay rate of the running average of the confidence."),
        eps(1e-30),
        positive("eps2", 1e-16, "EPS 2", "Term that is added to the confidence."),
        positive(
            "clip_threshold",
            1.0,
            "Clip threshold",
            "Largest root mean square of an update.",
        ),
        *decay(),
    ),
)

_LION = PackagedMethod(
    name="lion",
    label="Lion",
    summary="Sign of a running average of the gradient (package lion-pytorch).",
    target="lion_pytorch:Lion",
    default_lr=2e-5,
    lr_unit="change of every parameter per step; 3 to 10 times below AdamW",
    extra=EXTRA,
    packed=BETAS,
    options=(
        beta("beta1", 0.9, "Weight of the running average in an update."),
        beta("beta2", 0.99, "Decay rate of the running average of the gradient."),
        *decay(),
        flag(
            "decoupled_weight_decay",
            False,
            "Decoupled weight decay",
            "Make weight decay independent of the initial learning rate.",
        ),
    ),
)

_AVERAGING = (
    Option(
        name="r",
        label="R",
        type=float,
        default=0.0,
        low=0.0,
        doc="Power of the step in the weights of the average.",
    ),
    Option(
        name="weight_lr_power",
        label="Weight LR power",
        type=float,
        default=2.0,
        low=0.0,
        doc="Power of the learning rate in the weights of the average.",
    ),
)

_SCHEDULE_FREE_ADAMW = PackagedMethod(
    name="schedule_free_adamw",
    label="Schedule-Free AdamW",
    summary="AdamW with averaging instead of a schedule (package schedulefree).",
    target="schedulefree:AdamWScheduleFree",
    default_lr=5e-4,
    lr_unit="same as AdamW, but 1 to 10 times as high",
    extra=EXTRA,
    packed=BETAS,
    schedule_free=True,
    options=(*betas(0.9, 0.999), eps(1e-8), *decay(), *_AVERAGING),
)

_SCHEDULE_FREE_RADAM = PackagedMethod(
    name="schedule_free_radam",
    label="Schedule-Free RAdam",
    summary="Schedule-free AdamW with its own warmup (package schedulefree).",
    target="schedulefree:RAdamScheduleFree",
    default_lr=5e-4,
    lr_unit="same as AdamW, but 1 to 10 times as high",
    extra=EXTRA,
    packed=BETAS,
    schedule_free=True,
    options=(*betas(0.9, 0.999), eps(1e-8), *decay(), *_AVERAGING),
)

_SCHEDULE_FREE_SGD = PackagedMethod(
    name="schedule_free_sgd",
    label="Schedule-Free SGD",
    summary="SGD with averaging instead of a schedule (package schedulefree).",
    target="schedulefree:SGDScheduleFree",
    default_lr=1.0,
    lr_unit="factor of the gradient",
    extra=EXTRA,
    schedule_free=True,
    options=(
        beta("momentum", 0.9, "Weight of the average in the trained weights."),
        *decay("multiplied by the learning rate"),
        *_AVERAGING,
    ),
)

PACKAGED: dict[str, PackagedMethod] = {
    entry.name: entry
    for entry in (
        _PRODIGY,
        _PRODIGY_PLUS,
        _ADAFACTOR,
        _CAME,
        _LION,
        _SCHEDULE_FREE_ADAMW,
        _SCHEDULE_FREE_RADAM,
        _SCHEDULE_FREE_SGD,
        ADAMW_ADV,
        ADOPT_ADV,
        PRODIGY_ADV,
        LION_ADV,
        SIGNSGD_ADV,
    )
}
"""Optimizers of other packages by name, which are not methods for LoRA pairs."""
