r"""Learning rate schedules as functions of the step.

With W warmup steps, T steps, N cycles, power p and minimum factor f, the factor at step
t (0-based) is:

.. math::
    \text{warm-up}\ (t < W):\quad (t + 1) / W \\
    \text{then}\ f + (1 - f)\,s(u)\ \text{with}\ u = (t - W) / \max(1, T - W - 1): \\
    \text{constant}:\quad s = 1,\ f = 0 \\
    \text{linear}:\quad s = 1 - u \\
    \text{cosine}:\quad s = (1 + \cos \pi u) / 2 \\
    \text{cosine\_with\_restarts}:\quad s = (1 + \cos \pi (N u \bmod 1)) / 2,
        \quad s = 0\ \text{for}\ u = 1 \\
    \text{polynomial}:\quad s = (1 - u)^p \\
    \text{rex}:\quad s = (1 - u) / (0.1 + 0.9\,(1 - u))

The schedules are those of transformers and diffusers (rex: those of OneTrainer; J. Chen
et al., "REX: Revisiting Budgeted Training with an Improved Schedule", 2021,
arXiv:2107.04197), but they end at the last step instead of the step after it, and the
warm-up begins above zero.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Callable

__all__ = ["SHAPES", "learning_rate_factor", "make_schedule"]


def _cosine(u: float) -> float:
    return (1.0 + math.cos(math.pi * u)) / 2.0


SHAPES: dict[str, Callable[[float], float]] = {
    "constant": lambda _: 1.0,
    "linear": lambda u: 1.0 - u,
    "cosine": _cosine,
    "polynomial": lambda u: 1.0 - u,
    "rex": lambda u: (1.0 - u) / (0.1 + 0.9 * (1.0 - u)),
}
"""Schedules by name, as functions of u in [0, 1] that decrease from 1."""


def learning_rate_factor(
    step: int,
    *,
    shape: str,
    steps: int,
    warmup: int,
    floor: float,
    cycles: int = 1,
    power: float = 1.0,
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
    whole = max(1, steps - warmup - 1)
    done = min(whole, step - warmup)
    if shape == "cosine_with_restarts":
        # In integers: N u may be rounded to a number below the start of a cycle.
        ended = done == whole
        found = _cosine(1.0 if ended else (cycles * done) % whole / whole)
    else:
        found = SHAPES[shape](done / whole)
    if shape == "polynomial":
        found **= power
    return floor + (1.0 - floor) * found


def make_schedule(
    *,
    shape: str,
    steps: int,
    warmup: int,
    floor: float,
    cycles: int = 1,
    power: float = 1.0,
) -> Callable[[int], float]:
    """Return a function of the step for ``torch.optim.lr_scheduler.LambdaLR``."""
    return functools.partial(
        learning_rate_factor,
        shape=shape,
        steps=steps,
        warmup=warmup,
        floor=floor,
        cycles=cycles,
        power=power,
    )
