"""Learning rates that make sense for a method; the trainer and the optimizers ask here.

Units differ by method: a rate that was left behind from another one is 50 to 500 times
off, while searches of a good rate stay within a factor of about 30.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ._types import Method

__all__ = ["rate_note", "usual_lr"]

# Multiples of the usual rate between which nothing is said.
LOWEST, HIGHEST = 1 / 30, 40

# Options that change the unit of the learning rate: (method, option, value).
_BY_OPTION = {
    ("stiefel_lora", "a_rule", "adamw"): 1e-4,
    ("stiefel_lora", "a_rule", "sign"): 1e-3,
    ("stiefel_lora", "step", "factors"): 2e-2,
}


def usual_lr(entry: Method, options: Mapping[str, Any]) -> float:
    """Learning rate where a method with these options usually begins."""
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
    """A sentence about a learning rate far from the unit of the method, else None.

    Args:
        entry: the method.
        lr: learning rate; 0 trains nothing and is not remarked on.
        options: options of the method; absent ones have their defaults.
        key: name of the setting.
    """
    problem = far_rate(entry, lr, options)
    return problem and f"{key}={problem}."


def far_rate(entry: Method, lr: float, options: Mapping[str, Any]) -> str | None:
    """How far a learning rate is from the unit of the method; None where it is near.

    Args:
        entry: the method.
        lr: learning rate; 0 trains nothing and is not remarked on.
        options: options of the method; absent ones have their defaults.
    """
    usual = usual_lr(entry, options)
    ratio = lr / usual
    if lr == 0 or LOWEST < ratio < HIGHEST:
        return None
    times, word = (ratio, "above") if ratio > 1 else (1 / ratio, "below")
    return (
        f"{lr:g} is {times:.0f} times {word} {usual:g}, where {entry.name} "
        "usually begins; each optimizer has its own unit"
    )
