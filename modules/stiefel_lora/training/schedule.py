r"""Learning rate schedules as functions of the step.

With W warmup steps, T steps and minimum factor f, the factor at step t (0-based) is:

.. math::
    \text{warm-up}\ (t < W):\quad (t + 1) / W \\
    \text{then, with } u = (t - W) / \max(1, T - W - 1):\quad
    \text{constant } 1,\quad
    \text{linear } 1 - (1 - f) u,\quad
    \text{cosine } f + (1 - f) (1 + \cos \pi u) / 2
"""

from __future__ import annotations

import functools
import math
from collections.abc import Callable

__all__ = ["SHAPES", "learning_rate_factor", "make_schedule"]

SHAPES: dict[str, Callable[[float], float]] = {
    "constant": lambda _: 1.0,
    "linear": lambda u: 1.0 - u,
    "cosine": lambda u: (1.0 + math.cos(math.pi * u)) / 2.0,
}
"""Schedules by name, as functions of u in [0, 1] that decrease from 1."""


def learning_rate_factor(
    step: int, *, shape: str, steps: int, warmup: int, floor: float
) -> float:
    """Return the factor of the learning rate at ``step`` (0-based), in (0, 1].

    >>> learning_rate_factor(9, shape="linear", steps=10, warmup=0, floor=0.1)
    0.1
    """
    if step < warmup:
        return (step + 1) / warmup
    if shape == "constant":
        return 1.0
    # The last step, steps - 1, is at u = 1. LambdaLR also evaluates the one after it.
    u = min(1.0, (step - warmup) / max(1, steps - warmup - 1))
    return floor + (1.0 - floor) * SHAPES[shape](u)


def make_schedule(
    *, shape: str, steps: int, warmup: int, floor: float
) -> Callable[[int], float]:
    """Return a function of the step for ``torch.optim.lr_scheduler.LambdaLR``."""
    return functools.partial(
        learning_rate_factor, shape=shape, steps=steps, warmup=warmup, floor=floor
    )
