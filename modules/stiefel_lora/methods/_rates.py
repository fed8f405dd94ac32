"""Notes on learning rates that are unusual for a method.

Methods have different units of the learning rate. A learning rate that was chosen for
another method is wrong by a factor of 50 to 500, while reasonable values are within a
factor of about 30.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any, NamedTuple

from ._types import Method, PackagedMethod

__all__ = ["DecayExcess", "decay_excess", "rate_note", "usual_lr"]

# Multiples of the usual rate between which there is no remark.
LOWEST, HIGHEST = 1 / 30, 40
# Where the rate is the length of the step of the product, it cannot be far above the
# usual one: from 8 times on, the loss rises in all trials (docs/evidence.md).
_HIGHEST_OF_PRODUCT = 10
# Where the rate is a factor of an estimate, other values are mistaken for rates.
_OF_ESTIMATE = 1 / 10, 10

# Options that change the unit of the learning rate: (method, option, value).
_BY_OPTION = {
    ("stiefel_lora", "a_rule", "adamw"): 1e-4,
    ("stiefel_lora", "a_rule", "sign"): 1e-3,
}


def usual_lr(entry: Method, options: Mapping[str, Any]) -> float:
    """Return the usual learning rate of a method with these options."""
    return next(
        (
            rate
            for (name, option, value), rate in _BY_OPTION.items()
            if name == entry.name and options.get(option) == value
        ),
        entry.default_lr,
    )


def rate_note(
    entry: Method, lr: float, options: Mapping[str, Any], key: str = "learning_rate"
) -> str | None:
    """Return a note on a learning rate that is unusual for a method, or None.

    Args:
        entry: catalogue entry of the method.
        lr: learning rate. A value of 0 is accepted.
        options: options of the method. Defaults are used for missing ones.
        key: name of the setting.
    """
    problem = far_rate(entry, lr, options)
    return problem and f"{key}={problem}."


def far_rate(entry: Method, lr: float, options: Mapping[str, Any]) -> str | None:
    """Return the ratio of a learning rate to the usual one as text, or None if close.

    Args:
        entry: catalogue entry of the method.
        lr: learning rate. A value of 0 is accepted.
        options: options of the method. Defaults are used for missing ones.
    """
    usual = usual_lr(entry, options)
    ratio = lr / usual
    steps = entry.in_effect(options).get("step")
    lowest, highest = LOWEST, HIGHEST
    if steps == "product":
        highest = _HIGHEST_OF_PRODUCT
    if isinstance(entry, PackagedMethod) and entry.has_estimate:
        lowest, highest = _OF_ESTIMATE
    if lr == 0 or lowest < ratio < highest:
        return None
    times, word = (ratio, "above") if ratio > 1 else (1 / ratio, "below")
    return (
        f"{lr:g} is {times:.0f} times {word} {usual:g}, which is the usual learning "
        f"rate of {entry.name}. Learning rates of optimizers have different units"
    )


class DecayExcess(NamedTuple):
    """Weight decay that would change the sign of the weights."""

    option: str
    """Name of the option."""

    message: str
    """Reason, as the end of a message that begins with the option."""


def decay_excess(
    entry: Method, lr: float, options: Mapping[str, Any], rank: int | None = None
) -> DecayExcess | None:
    """Return a weight decay of which more than 1 is applied in one step, or None.

    A step multiplies the weights by 1 - lr x weight_decay, which changes their sign if
    the product is above 1.

    Args:
        entry: catalogue entry of the method. Options of plugins can have other
            meanings, and are not checked.
        lr: learning rate.
        options: options of the method. Defaults are used for missing ones.
        rank: lowest rank of a layer, for the weight decay that is divided by it. It is
            not checked if this is None.
    """
    if entry.implementation is not None:
        return None
    used = entry.in_effect(options)
    if used.get("decay_rule") == "over_rank" and used["a_rule"] != "adamw":
        return _excess_over_rank(used["weight_decay"], rank)
    ratio = max(1.0, used.get("lr_ratio", 1.0))
    for name in ("weight_decay", "weight_decay_b", "weight_decay_a"):
        own = 1.0 if name == "weight_decay_a" else ratio
        rate, decay = lr * own, used.get(name) or 0.0
        if rate * decay <= 1:
            continue
        of_b = f" and lr_ratio={ratio:g}" if own > 1 else ""
        return DecayExcess(
            name,
            f"{decay:g} times the learning rate {lr:g}{of_b} is {rate * decay:g}. It "
            "must be at most 1, because each step multiplies the weights by 1 minus "
            f"this product. Use a {name} of at most {_rounded_down(1 / rate):g}",
        )
    return None


def _excess_over_rank(decay: float, rank: int | None) -> DecayExcess | None:
    if rank is None or decay <= rank:
        return None
    return DecayExcess(
        "weight_decay",
        f"{decay:g} divided by the rank {rank} is {decay / rank:g}. It must be at most "
        "1, because each step multiplies A by 1 minus this quotient with "
        f"decay_rule='over_rank'. Use a weight_decay of at most {rank}",
    )


def _rounded_down(value: float) -> float:
    """Round to three digits, toward 0."""
    unit = 10.0 ** (math.floor(math.log10(value)) - 2)
    return math.floor(value / unit) * unit
