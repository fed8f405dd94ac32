"""Ranks of every block among the numbers that sd-scripts sends to its trackers.

The host has no entrance for numbers of a network, so the method of its trainer that
gathers a step's numbers is wrapped when the network is made.
"""

from __future__ import annotations

import functools
import inspect
import logging
import sys
from collections.abc import Callable, Sequence
from typing import Any

from ..optim.pairs import Pair
from ..optim.rank_probe import measure_ranks

__all__ = ["add_to_step_logs"]

log = logging.getLogger("stiefel_lora")

TESTED = "sd-scripts 48d368f"
_TRAINERS = ("train_network", "__main__")


class _Watch:
    """Counts steps and says what is to be logged in each."""

    def __init__(self, pairs: Callable[[], Sequence[Pair]], constrained: bool) -> None:
        self._pairs = pairs
        self._constrained = constrained
        self._step = 0

    def numbers(self, args: Any) -> dict[str, float]:
        """The ranks, once in ``max(5, steps // 40)`` steps and in the last."""
        self._step += 1
        steps = int(args.max_train_steps)
        if self._step % max(5, steps // 40) and self._step != steps:
            return {}
        pairs = self._pairs()
        report = measure_ranks(pairs, pairs if self._constrained else ())
        return report.scalars()


def add_to_step_logs(pairs: Callable[[], Sequence[Pair]], constrained: bool) -> None:
    """Let the trainer that is running log the ranks of these pairs.

    Args:
        pairs: gives the blocks under the names that curves show.
        constrained: whether B is kept orthonormal, so that its error is shown too.
    """
    trainer = _running_trainer()
    if trainer is None:
        log.warning(
            "NetworkTrainer.generate_step_logs(args, ...) was not found in this "
            "trainer, so the ranks of blocks are not logged; tested with %s.",
            TESTED,
        )
        return
    present = trainer.generate_step_logs
    # A second network of one process takes the place of the first.
    original = getattr(present, "host_method", present)
    watch = _Watch(pairs, constrained)

    @functools.wraps(original)
    def generate_step_logs(self: Any, args: Any, *rest: Any, **named: Any) -> Any:
        logs = original(self, args, *rest, **named)
        return logs | watch.numbers(args)

    generate_step_logs.host_method = original  # type: ignore[attr-defined]
    trainer.generate_step_logs = generate_step_logs


def _running_trainer() -> Any:
    for name in _TRAINERS:
        trainer = getattr(sys.modules.get(name), "NetworkTrainer", None)
        method = getattr(trainer, "generate_step_logs", None)
        if method is None:
            continue
        if list(inspect.signature(method).parameters)[1:2] == ["args"]:
            return trainer
    return None
