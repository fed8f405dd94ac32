"""Ranks of blocks that are logged after a step of a kohya trainer."""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from typing import Any

from .._intervals import rank_interval
from ..metrics.ranks import measure_ranks
from ..optim.pairs import Pair

__all__ = ["Pairs", "RankWatch", "lacks_steps"]

log = logging.getLogger("stiefel_lora")

Pairs = Callable[[], Sequence[Pair]]


def lacks_steps(args: Any, tested: str) -> bool:
    """Return whether the settings lack the number of steps, with a warning."""
    if hasattr(args, "max_train_steps"):
        return False
    log.warning(
        "--max_train_steps is not a setting of this trainer, so the ranks of blocks "
        "are not logged. Tested with %s.",
        tested,
    )
    return True


class RankWatch:
    """Measure the ranks that are logged in a step.

    Args:
        pairs: function that returns the pairs by display name.
        constrained: whether B is kept orthonormal. If True, its deviation is logged,
            too.
        args: settings of the trainer. Only ``max_train_steps`` is used.
    """

    def __init__(self, pairs: Pairs, constrained: bool, args: Any) -> None:
        self._pairs = pairs
        self._constrained = constrained
        self._args = args
        self._last = 0

    def numbers(self, step: int) -> dict[str, float]:
        """Return the ranks once per interval and in the last step, else an empty dict.

        Repeated calls in the same step are allowed.
        """
        # Read late: with --max_train_epochs the host sets it after the network is
        # built.
        steps = int(self._args.max_train_steps)
        due = step % rank_interval(steps) == 0 or step == steps
        if not due or step == self._last:
            return {}
        self._last = step
        pairs = self._pairs()
        # A layer smaller than the rank is trained by AdamW, with unconstrained B.
        held = [pair for pair in pairs if self._constrained and not pair.too_wide]
        return measure_ranks(pairs, held).scalars()
