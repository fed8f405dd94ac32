"""Options that are common to several optimizers of other packages."""

from __future__ import annotations

from ._factor_decay import FACTOR_DECAY
from ._types import Option

__all__ = [
    "ADAMW_UNIT",
    "ATAN2",
    "BETA3",
    "BETAS",
    "CAUTIOUS",
    "CORRECTION",
    "D0",
    "D_COEF",
    "EXTRA",
    "FACTOR",
    "FACTORED",
    "GROWTH",
    "PRODIGY_STEPS",
    "SAFEGUARD",
    "SLICE",
    "beta",
    "betas",
    "count",
    "decay",
    "eps",
    "flag",
    "positive",
]

ADAMW_UNIT = "same as AdamW: approximate change of a parameter per step"
FACTOR = "factor of the estimated learning rate: 1 for most runs"
EXTRA = "optimizers"
BETAS = {"betas": ("beta1", "beta2")}


def beta(name: str, default: float, doc: str = "") -> Option:
    """Return the option of a decay rate in [0, 1)."""
    text = {
        "beta1": "Decay rate of the running average of the gradient.",
        "beta2": "Decay rate of the running average of the squared gradient.",
    }
    return Option(
        name=name,
        label=name.capitalize(),
        type=float,
        default=default,
        low=0.0,
        high=1.0,
        high_open=True,
        doc=doc or text[name],
    )


def betas(beta1: float, beta2: float) -> tuple[Option, Option]:
    """Return the options beta1 and beta2."""
    return beta("beta1", beta1), beta("beta2", beta2)


def positive(name: str, default: float, label: str, doc: str) -> Option:
    """Return an option with positive values."""
    return Option(
        name=name,
        label=label,
        type=float,
        default=default,
        low=0.0,
        low_open=True,
        doc=doc,
    )


def flag(name: str, default: bool, label: str, doc: str) -> Option:
    """Return an option that is true or false."""
    return Option(name=name, label=label, type=bool, default=default, doc=doc)


def count(name: str, default: int, label: str, doc: str, low: int = 0) -> Option:
    """Return an option with integers of at least ``low``."""
    return Option(name=name, label=label, type=int, default=default, low=low, doc=doc)


def decay(
    doc: str = "multiplied by the learning rate as in AdamW",
) -> tuple[Option, ...]:
    """Return the option weight_decay, and those for B and A."""
    common = Option(
        name="weight_decay",
        label="Weight decay",
        type=float,
        default=0.0,
        low=0.0,
        doc=f"Decoupled weight decay, {doc}.",
    )
    return common, *FACTOR_DECAY


def eps(default: float) -> Option:
    """Return the option eps."""
    return positive(
        "eps", default, "EPS", "Term in the denominator for numerical stability."
    )


CAUTIOUS = flag(
    "cautious_wd",
    False,
    "Cautious weight decay",
    "Only apply weight decay where it has the sign of the update.",
)
ATAN2 = flag(
    "use_atan2", False, "Use atan2", "Use atan2 instead of a division, without eps."
)
FACTORED = flag(
    "nnmf_factor",
    False,
    "Factored state",
    "Store the moments as factors of rank 1, which needs less memory.",
)
BETA3 = Option(
    name="beta3",
    label="Beta3",
    type=float,
    default=None,
    low=0.0,
    high=1.0,
    high_open=True,
    optional=True,
    unset_means="the square root of beta2",
    doc="Decay rate of the running averages of the estimate.",
)
GROWTH = Option(
    name="growth_rate",
    label="Growth rate",
    type=float,
    default=None,
    low=1.0,
    optional=True,
    unset_means="unlimited",
    doc="Largest factor by which the estimate increases in a step. 1.02 has the "
    "effect of a warmup.",
)
D0 = positive("d0", 1e-6, "Initial D", "Initial estimate of the learning rate.")
D_COEF = positive(
    "d_coef",
    1.0,
    "D coefficient",
    "Factor of the estimate, the preferred way to change the learning rate.",
)
SLICE = "Use every Nth entry of a tensor for the estimate, which needs less memory."
SAFEGUARD = flag(
    "safeguard_warmup",
    False,
    "Safeguard warmup",
    "Keep the estimate independent of the learning rate. Recommended with a warmup.",
)
CORRECTION = flag(
    "use_bias_correction",
    False,
    "Bias correction",
    "Correct the bias of the moments in the first steps, as in Adam.",
)
PRODIGY_STEPS = count(
    "prodigy_steps",
    0,
    "Prodigy steps",
    "Steps after which the estimate is kept. 0: never.",
)
