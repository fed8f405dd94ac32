"""Test of an optimizer on small tensors before training."""

from __future__ import annotations

import contextlib
import functools
import io
from collections.abc import Callable, Iterable, Iterator
from typing import TYPE_CHECKING, Any

import torch
from torch import nn

from .._exceptions import ConfigError, reason_of
from ..config.optimizer import ForeignOptimizer
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

# A few of each: some optimizers handle the first parameter, or pairs, differently.
_COUNT = 8
_SIDES = (8, 4, 1, 1)


def check_optimizer(
    config: TrainConfig, device: torch.device, dimensions: Iterable[int] = (2,)
) -> None:
    """Import the optimizer, and test optimizers of other packages on small tensors.

    Steps, ``eval()`` and ``train()``, and saving and loading the state are tested.

    Args:
        config: configuration with the optimizer and its options.
        device: device of the run.
        dimensions: numbers of dimensions of the trained parameters.

    Raises:
        ConfigError: If a package is not installed, the class is not an optimizer or
            does not accept the options, or a method of the optimizer fails.
    """
    choice = config.optimizer
    if not isinstance(choice, ForeignOptimizer):
        if choice.method is not None:
            choice.method.load()
        return
    # Some classes print when they are created, which would be mixed with JSON output.
    with contextlib.redirect_stdout(io.StringIO()):
        _try_class(choice, config.learning_rate, device, dimensions)


def _try_class(
    choice: ForeignOptimizer,
    rate: float,
    device: torch.device,
    dimensions: Iterable[int],
) -> None:
    source = choice.source
    parameters = [
        nn.Parameter(torch.ones(_SIDES[:count], device=device))
        for count in sorted(dimensions)
        for _ in range(_COUNT)
    ]
    create = functools.partial(
        create_foreign,
        choice.load(),
        source,
        parameters,
        lr=rate,
        options=choice.keywords(),
    )
    optimizer = create()
    with _trial(source, "a step with dense gradients"):
        closure = needs_closure(optimizer)
        if not closure:
            _step(optimizer, parameters)
    if closure:
        raise ConfigError(
            f"{source} requires a closure, which is not supported. "
            "Use another optimizer."
        )
    with _trial(source, "eval() and train()"):
        with in_eval_mode(optimizer):
            pass
        _step(optimizer, parameters)
    # A step may have dropped some parameters.
    check_groups(optimizer, source, parameters)
    _try_resume(optimizer, source, create, parameters)


def _try_resume(
    optimizer: torch.optim.Optimizer,
    source: str,
    create: Callable[[], torch.optim.Optimizer],
    parameters: list[nn.Parameter],
) -> None:
    """Save the state of an optimizer and load it into another one.

    Raises:
        ConfigError: If the state cannot be saved or restored.
    """
    with _trial(source, "state_dict()"):
        state = optimizer.state_dict()
        missing = [key for key in ("state", "param_groups") if key not in state]
        if missing:
            raise TypeError(f"its result has no {' and no '.join(missing)}")
    state = _through_checkpoint(state, source)
    resumed = create()
    with _trial(source, "load_state_dict()"):
        resumed.load_state_dict(state)
        _step(resumed, parameters)


@contextlib.contextmanager
def _trial(source: str, what: str) -> Iterator[None]:
    """Convert exceptions of an optimizer to ConfigError.

    Raises:
        ConfigError: If an exception is raised in the ``with`` block.
    """
    try:
        yield
    except FAILURES as error:
        raise ConfigError(
            f"{source} failed in a test of {what} "
            f"({reason_of(error)}). Use another optimizer or other options."
        ) from error


def _through_checkpoint(state: dict[str, Any], source: str) -> dict[str, Any]:
    """Check that the state of an optimizer can be saved and loaded in a checkpoint."""
    try:
        return unpack_state(pack_state(state))
    # torch's reason suggests an unsafe way to read it, so it is left out.
    except FAILURES as error:
        raise ConfigError(
            f"{source} has objects in its state that cannot be "
            "saved. Only tensors, numbers, strings, lists and dicts are supported. "
            "Use another optimizer."
        ) from error


def _step(optimizer: torch.optim.Optimizer, parameters: list[nn.Parameter]) -> None:
    schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda _: 1.0)
    for parameter in parameters:
        parameter.grad = torch.full_like(parameter, 1e-3)
    optimizer.step()
    schedule.step()
    optimizer.zero_grad()
