"""Find out before anything is loaded whether an optimizer can train this run."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING

import torch
from torch import nn

from .._exceptions import ConfigError, reason_of
from ..optim.foreign import create_foreign, needs_closure
from .checkpoint import pack_state, unpack_state

if TYPE_CHECKING:
    from ..config import TrainConfig

__all__ = ["check_optimizer"]

# A few of each: some optimizers treat the first parameter, or pairs, in their own way.
_COUNT = 8
_SIDES = (8, 4, 1, 1)


def check_optimizer(
    config: TrainConfig, device: torch.device, dimensions: Iterable[int] = (2,)
) -> None:
    """Import the optimizer; let one of another package take a step on small tensors.

    Args:
        config: names the optimizer and its options.
        device: where the run trains; some optimizers work on one kind alone.
        dimensions: number of dimensions that the trained parameters have.

    Raises:
        ConfigError: a package that is missing, a class that is no optimizer, options
            that it does not accept, or a step that it cannot take here.
    """
    choice = config.optimizer
    if choice.method is not None:
        choice.method.load()
        return
    path: str = choice.class_path  # type: ignore[attr-defined]
    parameters = [
        nn.Parameter(torch.ones(_SIDES[:count], device=device))
        for count in sorted(dimensions)
        for _ in range(_COUNT)
    ]
    optimizer = create_foreign(
        choice.load(),  # type: ignore[attr-defined]
        path,
        parameters,
        lr=config.learning_rate,
        options=choice.arguments(),
    )
    if needs_closure(optimizer):
        raise ConfigError(
            f"optimizer.class={path!r} needs a closure that computes the loss again in "
            f"each step, which this trainer does not have. Choose another optimizer."
        )
    try:
        _step(optimizer, parameters)
    # A step of another package raises whatever it likes.
    except Exception as error:
        raise ConfigError(
            f"optimizer.class={path!r} failed in a trial step with dense gradients "
            f"({reason_of(error)}). Choose another optimizer or other options."
        ) from error
    _check_state(optimizer, path)


def _check_state(optimizer: torch.optim.Optimizer, path: str) -> None:
    """Refuse a state that a checkpoint could hold and no resume could read."""
    try:
        unpack_state(pack_state(optimizer.state_dict()))
    # torch's reason names an unsafe way to read it, so it is left out.
    except Exception as error:
        raise ConfigError(
            f"optimizer.class={path!r} keeps objects in its state that a checkpoint "
            f"cannot hold (only tensors, numbers, texts, lists and dicts). Choose "
            f"another optimizer."
        ) from error


def _step(optimizer: torch.optim.Optimizer, parameters: list[nn.Parameter]) -> None:
    schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda _: 1.0)
    for parameter in parameters:
        parameter.grad = torch.full_like(parameter, 1e-3)
    optimizer.step()
    schedule.step()
    optimizer.zero_grad()
