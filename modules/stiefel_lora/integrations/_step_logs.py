"""Ranks of every block among the numbers that sd-scripts sends to its trackers.

The host has no entrance for numbers of a network, so the method of its trainer that
sends a step's numbers is wrapped when the network is made.
"""

from __future__ import annotations

import functools
import inspect
import logging
import sys
from collections.abc import Callable, Sequence
from typing import Any

from .._intervals import rank_interval
from ..optim.pairs import Pair
from ..optim.rank_probe import measure_ranks

__all__ = ["add_to_step_logs"]

log = logging.getLogger("stiefel_lora")

TESTED = "sd-scripts 48d368f"
_TRAINERS = ("train_network", "__main__")
_ARGUMENTS = ["accelerator", "logs", "global_step"]


class _Watch:
    """Says what is to be logged in a step."""

    def __init__(
        self, pairs: Callable[[], Sequence[Pair]], constrained: bool, args: Any
    ) -> None:
        self._pairs = pairs
        self._constrained = constrained
        self._args = args
        self._last = 0

    def numbers(self, step: int) -> dict[str, float]:
        """The ranks, once in every interval and in the last step.

        The host calls for every part of an accumulated batch, and again to validate.
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


def add_to_step_logs(
    pairs: Callable[[], Sequence[Pair]], constrained: bool, args: Any
) -> None:
    """Let the trainer that is running log the ranks of these pairs.

    Args:
        pairs: gives the blocks under the names that curves show.
        constrained: whether B is kept orthonormal, so that its error is shown too.
        args: the host's settings, of which ``max_train_steps`` is read.
    """
    trainer = _running_trainer()
    if trainer is None:
        log.warning(
            "NetworkTrainer.step_logging(accelerator, logs, global_step, ...) was not "
            "found in this trainer, so the ranks of blocks are not logged; tested with "
            "%s.",
            TESTED,
        )
        return
    present = trainer.step_logging
    # A second network of one process takes the place of the first.
    original = getattr(present, "host_method", present)
    watch = _Watch(pairs, constrained, args)

    @functools.wraps(original)
    def step_logging(
        self: Any, accelerator: Any, logs: Any, global_step: int, *rest: Any, **kw: Any
    ) -> Any:
        logs = logs | watch.numbers(global_step)
        return original(self, accelerator, logs, global_step, *rest, **kw)

    step_logging.host_method = original  # type: ignore[attr-defined]
    trainer.step_logging = step_logging


def _running_trainer() -> Any:
    for name in _TRAINERS:
        trainer = getattr(sys.modules.get(name), "NetworkTrainer", None)
        method = getattr(trainer, "step_logging", None)
        if method is None:
            continue
        if list(inspect.signature(method).parameters)[1:4] == _ARGUMENTS:
            return trainer
    return None
