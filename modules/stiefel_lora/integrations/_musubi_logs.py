"""Logging of the ranks of every block to the trackers of musubi-tuner.

The trainer has a method that is called after every optimizer step. It is wrapped when
the network is created.
"""

from __future__ import annotations

import functools
import inspect
import logging
import sys
from typing import Any

from ._rank_watch import Pairs, RankWatch, lacks_steps

__all__ = ["TESTED", "log_after_steps"]

log = logging.getLogger("stiefel_lora")

TESTED = "musubi-tuner 30c658c"
_TRAINER = "musubi_tuner.training.trainer_base"
_ARGUMENTS = {"accelerator", "sync_gradients", "global_step"}


def log_after_steps(pairs: Pairs, constrained: bool, args: Any) -> None:
    """Log the ranks of pairs in the running trainer.

    See :class:`RankWatch` for the arguments.
    """
    trainer = getattr(sys.modules.get(_TRAINER), "NetworkTrainer", None)
    present = getattr(trainer, "on_post_optimizer_step", None)
    if trainer is None or present is None or not _takes(present):
        log.warning(
            "NetworkTrainer.on_post_optimizer_step(accelerator, sync_gradients, "
            "global_step, ...) was not found in this trainer, so the ranks of blocks "
            "are not logged. Tested with %s.",
            TESTED,
        )
        return
    if lacks_steps(args, TESTED):
        return
    # A second network in a process replaces the first.
    original = getattr(present, "host_method", present)
    trainer.on_post_optimizer_step = _with_ranks(
        original, RankWatch(pairs, constrained, args)
    )


def _takes(method: Any) -> bool:
    return set(inspect.signature(method).parameters) >= _ARGUMENTS


def _with_ranks(original: Any, watch: RankWatch) -> Any:
    signature = inspect.signature(original)

    @functools.wraps(original)
    def on_post_optimizer_step(*args: Any, **kwargs: Any) -> Any:
        result = original(*args, **kwargs)
        arguments = signature.bind(*args, **kwargs).arguments
        accelerator = arguments["accelerator"]
        if arguments["sync_gradients"] and accelerator.trackers:
            step = arguments["global_step"] + 1
            numbers = watch.numbers(step)
            if numbers:
                accelerator.log(numbers, step=step)
        return result

    on_post_optimizer_step.host_method = original  # type: ignore[attr-defined]
    return on_post_optimizer_step
