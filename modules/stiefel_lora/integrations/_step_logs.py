"""Logging of the ranks of every block to the trackers of sd-scripts.

The method of the trainer that logs a step is wrapped when the network is created.
"""

from __future__ import annotations

import functools
import inspect
import logging
import sys
from typing import Any

from ._rank_watch import Pairs, RankWatch, lacks_steps

__all__ = ["TESTED", "add_to_step_logs"]

log = logging.getLogger("stiefel_lora")

TESTED = "sd-scripts 48d368f"
_TRAINERS = ("train_network", "__main__")
_ARGUMENTS = ["accelerator", "logs", "global_step"]


def add_to_step_logs(pairs: Pairs, constrained: bool, args: Any) -> None:
    """Log the ranks of pairs in the running trainer.

    See :class:`RankWatch` for the arguments.
    """
    trainer = _running_trainer()
    if trainer is None:
        log.warning(
            "NetworkTrainer.step_logging(accelerator, logs, global_step, ...) was not "
            "found in this trainer, so the ranks of blocks are not logged. Tested "
            "with %s.",
            TESTED,
        )
        return
    if lacks_steps(args, TESTED):
        return
    present = trainer.step_logging
    # A second network in a process replaces the first.
    original = getattr(present, "host_method", present)
    watch = RankWatch(pairs, constrained, args)

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
