"""Optimizers of other packages, used by the protocol of ``torch.optim.Optimizer``.

Beside ``step`` and parameter groups with an ``lr`` that protocol has an optional part:
schedule-free optimizers keep two sets of weights and have ``train()`` and ``eval()`` to
exchange them. Weights of ``eval()`` are those to measure, show and write; steps are
taken with those of ``train()``.
"""

from __future__ import annotations

import contextlib
import inspect
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import torch
from torch import nn

from .._exceptions import ConfigError, reason_of

__all__ = [
    "FAILURES",
    "check_groups",
    "create_foreign",
    "in_eval_mode",
    "needs_closure",
]

# Classes of other packages raise whatever they like, and some end the program.
FAILURES = (Exception, SystemExit)


def create_foreign(
    kind: object,
    path: str,
    params: Sequence[Any],
    *,
    lr: float,
    options: Mapping[str, Any],
) -> torch.optim.Optimizer:
    """Build an optimizer of another package, ready to train.

    Args:
        kind: what ``path`` led to; it is not called unless it is an optimizer class.
        path: where it was imported from, for sentences.
        params: parameters or groups of them.
        lr: learning rate.
        options: other keyword arguments.

    Raises:
        ConfigError: no subclass of ``torch.optim.Optimizer``, options that it does not
            accept, no learning rate that a schedule could set, or parameters that it
            leaves out.
    """
    if not (isinstance(kind, type) and issubclass(kind, torch.optim.Optimizer)):
        raise ConfigError(
            f"optimizer.class={path!r} is not a subclass of torch.optim.Optimizer. "
            f'Name an optimizer class, for example "torch.optim.RAdam".'
        )
    build: Callable[..., torch.optim.Optimizer] = kind
    try:
        optimizer = build(params, lr=lr, **options)
        if not isinstance(optimizer, torch.optim.Optimizer):
            raise TypeError(f"it returns {type(optimizer).__name__}, no optimizer")
        if _has_modes(optimizer):
            optimizer.train()  # type: ignore[attr-defined]
    except FAILURES as error:
        raise ConfigError(
            f"optimizer.options: {kind.__name__}(parameters, "
            f"{', '.join(f'{key}=...' for key in ('lr', *options))}) failed "
            f"({reason_of(error)}). Correct the options, or choose another "
            f"optimizer.class."
        ) from error
    check_groups(optimizer, path, params)
    return optimizer


def check_groups(
    optimizer: torch.optim.Optimizer, path: str, params: Sequence[Any]
) -> None:
    """Check that an optimizer holds all that it was given, each with a learning rate.

    Args:
        optimizer: of another package.
        path: where it was imported from, for sentences.
        params: parameters or groups of them, as its class got them.

    Raises:
        ConfigError: groups that are not torch's, a group without ``lr``, or parameters
            that would not be trained.
    """
    try:
        groups = [
            (set(group), list(group["params"])) for group in optimizer.param_groups
        ]
    except FAILURES as error:
        raise ConfigError(
            f"optimizer.class={path!r} has no param_groups as torch.optim.Optimizer "
            f"makes them ({reason_of(error)}). Choose another optimizer."
        ) from error
    if not all("lr" in keys for keys, _ in groups):
        raise ConfigError(
            f"optimizer.class={path!r} has no lr in its parameter groups, which the "
            f"learning rate schedule sets. Choose another optimizer."
        )
    given = [
        parameter
        for item in params
        for parameter in (item["params"] if isinstance(item, Mapping) else [item])
    ]
    held = {id(parameter) for _, held in groups for parameter in held}
    lost = sum(id(parameter) not in held for parameter in given)
    if lost:
        raise ConfigError(
            f"optimizer.class={path!r} leaves {lost} of {len(given)} parameters out of "
            f"its param_groups, so they would not be trained. Choose another optimizer "
            f"or other options."
        )


def needs_closure(optimizer: torch.optim.Optimizer) -> bool:
    """Whether ``step`` cannot be called without a function that computes the loss."""
    # Bound to its instance: torch wraps the class's function to profile it.
    closure = inspect.signature(optimizer.step).parameters.get("closure")
    return closure is not None and closure.default is inspect.Parameter.empty


@contextlib.contextmanager
def in_eval_mode(optimizer: torch.optim.Optimizer) -> Iterator[None]:
    """Hold the weights that an optimizer means to be used; nothing for most.

    The weights that are trained come back with their own bits: ``eval()`` and
    ``train()`` interpolate there and back, and rounding would make a run depend on how
    often it was measured.
    """
    if not _has_modes(optimizer):
        yield
        return
    parameters = [p for group in optimizer.param_groups for p in group["params"]]
    kept = [parameter.detach().clone() for parameter in parameters]
    optimizer.eval()  # type: ignore[attr-defined]
    try:
        yield
    finally:
        optimizer.train()  # type: ignore[attr-defined]
        _fill(parameters, kept)


@torch.no_grad()
def _fill(parameters: list[nn.Parameter], values: list[torch.Tensor]) -> None:
    for parameter, value in zip(parameters, values, strict=True):
        parameter.copy_(value)


def _has_modes(optimizer: torch.optim.Optimizer) -> bool:
    modes = (getattr(optimizer, name, None) for name in ("train", "eval"))
    return all(callable(mode) for mode in modes)
