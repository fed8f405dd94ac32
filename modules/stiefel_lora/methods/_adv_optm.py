"""Catalogue entries of optimizers of adv_optm.

Only options that its versions 2.2 to 2.5 have in common have settings here.
"""

from __future__ import annotations

from ._packaged_options import (
    ADAMW_UNIT,
    ATAN2,
    BETA3,
    BETAS,
    CAUTIOUS,
    D0,
    D_COEF,
    EXTRA,
    FACTOR,
    FACTORED,
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
)
from ._types import PackagedMethod

__all__ = ["ADAMW_ADV", "ADOPT_ADV", "LION_ADV", "PRODIGY_ADV", "SIGNSGD_ADV"]

ADAMW_ADV = PackagedMethod(
    name="adamw_adv",
    label="AdamW Advanced",
    summary="AdamW with optional changes (package adv_optm).",
    target="adv_optm:AdamW_adv",
    default_lr=1e-4,
    lr_unit=ADAMW_UNIT,
    extra=EXTRA,
    packed=BETAS,
    options=(
        *betas(0.9, 0.999),
        eps(1e-8),
        *decay(),
        CAUTIOUS,
        ATAN2,
        FACTORED,
    ),
)

ADOPT_ADV = PackagedMethod(
    name="adopt_adv",
    label="ADOPT Advanced",
    summary="ADOPT with optional changes (package adv_optm).",
    target="adv_optm:Adopt_adv",
    default_lr=1e-4,
    lr_unit=ADAMW_UNIT,
    extra=EXTRA,
    packed=BETAS,
    options=(
        *betas(0.9, 0.9999),
        eps(1e-6),
        *decay(),
        CAUTIOUS,
        ATAN2,
        FACTORED,
    ),
)

PRODIGY_ADV = PackagedMethod(
    name="prodigy_adv",
    label="Prodigy Advanced",
    summary="Prodigy with optional changes (package adv_optm).",
    target="adv_optm:Prodigy_adv",
    default_lr=1.0,
    lr_unit=FACTOR,
    extra=EXTRA,
    packed=BETAS,
    has_estimate=True,
    options=(
        *betas(0.9, 0.999),
        BETA3,
        eps(1e-8),
        *decay(),
        SAFEGUARD,
        D0,
        D_COEF,
        GROWTH,
        flag(
            "d_limiter",
            False,
            "D limiter",
            "Limit the growth of the estimate per step.",
        ),
        PRODIGY_STEPS,
        count("slice_p", 11, "Slice", SLICE, low=1),
        CAUTIOUS,
        ATAN2,
        FACTORED,
    ),
)

LION_ADV = PackagedMethod(
    name="lion_adv",
    label="Lion Advanced",
    summary="Lion with optional changes (package adv_optm).",
    target="adv_optm:Lion_adv",
    default_lr=2e-5,
    lr_unit="change of every parameter per step; 3 to 10 times below AdamW",
    extra=EXTRA,
    packed=BETAS,
    options=(
        beta("beta1", 0.9, "Weight of the running average in an update."),
        beta("beta2", 0.99, "Decay rate of the running average of the gradient."),
        *decay(),
        CAUTIOUS,
        FACTORED,
    ),
)

SIGNSGD_ADV = PackagedMethod(
    name="signsgd_adv",
    label="SignSGD Advanced",
    summary="Sign of the momentum, with optional changes (package adv_optm).",
    target="adv_optm:SignSGD_adv",
    default_lr=2e-5,
    lr_unit="change of every parameter per step; 3 to 10 times below AdamW",
    extra=EXTRA,
    options=(
        beta("momentum", 0.9, "Decay rate of the running average of the gradient."),
        *decay(),
        CAUTIOUS,
        FACTORED,
    ),
)
