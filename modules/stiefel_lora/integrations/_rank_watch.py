"""Which numbers of the blocks are due after a step of a kohya trainer."""

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
    """Whether a host's settings do not say how many steps there are; warn of it."""
    if hasattr(args, "max_train_steps"):
        return False
    log.warning(
        "--max_train_steps was not found among the settings of this trainer, so the "
        "ranks of blocks are not logged; tested with %s.",
        tested,
    )
    return True


class RankWatch:
    """Says what is to be logged in a step.

    Args:
        pairs: gives the blocks under the names that curves show.
        constrained: whether B is kept orthonormal, so that its error is shown too.
        args: the host's settings, of which ``max_train_steps`` is read.
    """

    def __init__(self, pairs: Pairs, constrained: bool, args: Any) -> None:
        self._pairs = pairs
        self._constrained = constrained
        self._args = args
        self._last = 0

    def numbers(self, step: int) -> dict[str, float]:
        """The ranks, once in every interval and in the last step.

        A host may ask for every part of an accumulated batch, and again to validate.
        """
        # Read late: with --max_train_epochs the host counts steps after this network.
        steps = int(self._args.max_train_steps)
        due = step % rank_interval(steps) == 0 or step == steps
        if not due or step == self._last:
            return {}
        self._last = step
        pairs = self._pairs()
        # A layer below the rank takes AdamW, whose B is free.
        held = [pair for pair in pairs if self._constrained and not pair.too_wide]
        return measure_ranks(pairs, held).scalars()
