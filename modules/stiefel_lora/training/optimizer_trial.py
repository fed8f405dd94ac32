"""Find out before anything is loaded whether an optimizer can train this run."""

from __future__ import annotations

import contextlib
import functools
from collections.abc import Callable, Iterable, Iterator
from typing import TYPE_CHECKING, Any

import torch
from torch import nn

from .._exceptions import ConfigError, reason_of
from ..optim.foreign import (
    FAILURES,
    check_groups,
    create_foreign,
    in_eval_mode,
    needs_closure,
)
from .checkpointing.checkpoint import pack_state, unpack_state

if TYPE_CHECKING:
    from ..config import TrainConfig

__all__ = ["check_optimizer"]

# A few of each: some optimizers treat the first parameter, or pairs, in their own way.
_COUNT = 8
_SIDES = (8, 4, 1, 1)


def check_optimizer(
    config: TrainConfig, device: torch.device, dimensions: Iterable[int] = (2,)
) -> None:
    """Import the optimizer; try one of another package on small tensors.

    The trial is all that a run asks of it: steps, ``eval()`` and ``train()``, a state
    that is saved and loaded.

    Args:
        config: names the optimizer and its options.
        device: where the run trains; some optimizers work on one kind alone.
        dimensions: number of dimensions that the trained parameters have.

    Raises:
        ConfigError: a package that is missing, a class that is no optimizer, options
            that it does not accept, or a part of the protocol that fails here.
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
    create = functools.partial(
        create_foreign,
        choice.load(),  # type: ignore[attr-defined]
        path,
        parameters,
        lr=config.learning_rate,
        options=choice.arguments(),
    )
    optimizer = create()
    with _trial(path, "step with dense gradients"):
        closure = needs_closure(optimizer)
        if not closure:
            _step(optimizer, parameters)
    if closure:
        raise ConfigError(
            f"optimizer.class={path!r} needs a closure that computes the loss again in "
            f"each step, which this trainer does not have. Choose another optimizer."
        )
    with _trial(path, "eval() and train(), as around a validation,"):
        with in_eval_mode(optimizer):
            pass
        _step(optimizer, parameters)
    # A step may have dropped some.
    check_groups(optimizer, path, parameters)
    _try_resume(optimizer, path, create, parameters)


def _try_resume(
    optimizer: torch.optim.Optimizer,
    path: str,
    create: Callable[[], torch.optim.Optimizer],
    parameters: list[nn.Parameter],
) -> None:
    """Save the state of an optimizer and resume another one from it.

    Raises:
        ConfigError: no checkpoint could hold it, or no run resume from it.
    """
    with _trial(path, "state_dict(), as for a checkpoint,"):
        state = optimizer.state_dict()
        missing = [key for key in ("state", "param_groups") if key not in state]
        if missing:
            raise TypeError(f"its result has no {' and no '.join(missing)}")
    state = _through_checkpoint(state, path)
    resumed = create()
    with _trial(path, "load_state_dict(), as for a resume,"):
        resumed.load_state_dict(state)
        _step(resumed, parameters)


@contextlib.contextmanager
def _trial(path: str, what: str) -> Iterator[None]:
    """Turn what an optimizer raises into a sentence.

    Raises:
        ConfigError: anything is raised inside.
    """
    try:
        yield
    except FAILURES as error:
        raise ConfigError(
            f"optimizer.class={path!r} failed in a trial {what} ({reason_of(error)}). "
            f"Choose another optimizer or other options."
        ) from error


def _through_checkpoint(state: dict[str, Any], path: str) -> dict[str, Any]:
    """Refuse a state that a checkpoint could hold and no resume could read."""
    try:
        return unpack_state(pack_state(state))
    # torch's reason names an unsafe way to read it, so it is left out.
    except FAILURES as error:
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
