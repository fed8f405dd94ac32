"""Support for optimizers of other packages that subclass ``torch.optim.Optimizer``.

Schedule-free optimizers have two sets of weights and switch between them with
``train()`` and ``eval()``. The evaluation weights are used for validation, samples and
saved files, and the training weights for steps.
"""

from __future__ import annotations

import contextlib
import inspect
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import torch
from torch import nn

from .._exceptions import ConfigError, reason_of
from ..methods import suggestion

__all__ = [
    "FAILURES",
    "check_groups",
    "create_foreign",
    "in_eval_mode",
    "needs_closure",
    "rate_estimates",
]

# Classes of other packages can raise anything, and some end the program.
FAILURES = (Exception, SystemExit)


def create_foreign(
    kind: object,
    source: str,
    params: Sequence[Any],
    *,
    lr: float,
    options: Mapping[str, Any],
) -> torch.optim.Optimizer:
    """Create an optimizer of another package and check it.

    Args:
        kind: loaded object. It must be an optimizer class.
        source: setting that selects it, such as ``optimizer.name='prodigy'``, for error
            messages.
        params: iterable of parameters or parameter groups.
        lr: learning rate.
        options: other keyword arguments.

    Raises:
        ConfigError: If the class is not a subclass of ``torch.optim.Optimizer``, does
            not accept the options, has no learning rate for the scheduler, or does not
            train all parameters.
    """
    if not (isinstance(kind, type) and issubclass(kind, torch.optim.Optimizer)):
        raise ConfigError(
            f"{source} is not a subclass of torch.optim.Optimizer. "
            'Use an optimizer class, for example "torch.optim.RAdam".'
        )
    _check_options(kind, source, options)
    build: Callable[..., torch.optim.Optimizer] = kind
    try:
        optimizer = build(params, lr=lr, **options)
        if not isinstance(optimizer, torch.optim.Optimizer):
            raise TypeError(f"it returns {type(optimizer).__name__}, not an optimizer")
        if _has_modes(optimizer):
            optimizer.train()  # type: ignore[attr-defined]
    except FAILURES as error:
        raise ConfigError(
            f"optimizer.options: {kind.__name__}(parameters, "
            f"{', '.join(f'{key}=...' for key in ('lr', *options))}) failed "
            f"({reason_of(error)}). Correct the options, or use another "
            "optimizer."
        ) from error
    check_groups(optimizer, source, params)
    return optimizer


def _check_options(kind: type, source: str, options: Mapping[str, Any]) -> None:
    """Check the names of options, unless the class accepts any names.

    Raises:
        ConfigError: If the class has no such option, or the option is the learning
            rate.
    """
    try:
        _, *parameters = inspect.signature(kind).parameters.values()
    except (TypeError, ValueError):
        # Classes of extension modules may have no signature.
        return
    named = (inspect.Parameter.POSITIONAL_OR_KEYWORD, inspect.Parameter.KEYWORD_ONLY)
    known = [part.name for part in parameters if part.kind in named]
    if "lr" not in known or any(
        part.kind is inspect.Parameter.VAR_KEYWORD for part in parameters
    ):
        return
    known.remove("lr")
    shown = source.partition("=")[2].strip("'")
    for name, value in options.items():
        if name == "lr":
            raise ConfigError(
                f"optimizer.options.lr={value!r}: the learning rate is not an option. "
                "Remove it, and set learning_rate."
            )
        if name not in known:
            raise ConfigError(
                f"optimizer.options.{name}: {shown} has no option {name!r}. "
                f"{suggestion(name, known)}"
            )


def check_groups(
    optimizer: torch.optim.Optimizer, source: str, params: Sequence[Any]
) -> None:
    """Check that an optimizer trains all given parameters and has learning rates.

    Args:
        optimizer: optimizer of another package.
        source: setting that selects it, for error messages.
        params: parameters or parameter groups that were passed to its class.

    Raises:
        ConfigError: If the groups do not have the format of torch, a group has no
            ``lr``, or a parameter would not be trained.
    """
    try:
        groups = [
            (set(group), list(group["params"])) for group in optimizer.param_groups
        ]
    except FAILURES as error:
        raise ConfigError(
            f"{source} does not have the param_groups of a "
            f"torch.optim.Optimizer ({reason_of(error)}). Use another optimizer."
        ) from error
    if not all("lr" in keys for keys, _ in groups):
        raise ConfigError(
            f"{source} has no lr in its parameter groups, which the "
            "learning rate scheduler requires. Use another optimizer."
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
            f"{source} does not train {lost} of {len(given)} "
            "parameters, because they are missing from its param_groups. Use "
            "another optimizer or other options."
        )


def rate_estimates(optimizer: torch.optim.Optimizer) -> list[dict[str, float]]:
    """Return what the parameter groups expose about their learning rates.

    Returns:
        A dictionary for each group: ``d`` (estimate of Prodigy and D-Adaptation),
        ``d_lr`` (estimate times learning rate) and ``scheduled_lr`` (schedule-free
        optimizers, with their warmup). Empty for other optimizers.
    """
    found = []
    for group in optimizer.param_groups:
        values = {}
        # Without counted steps, "d" has another meaning (torch.optim.Adafactor).
        if "d" in group and "k" in group:
            values = {"d": float(group["d"])}
            values["d_lr"] = values["d"] * float(group["lr"])
        if "scheduled_lr" in group:
            values["scheduled_lr"] = float(group["scheduled_lr"])
        found.append(values)
    return found


def needs_closure(optimizer: torch.optim.Optimizer) -> bool:
    """Return whether ``step`` requires a closure that computes the loss."""
    # Bound to its instance: torch wraps the class's function to profile it.
    closure = inspect.signature(optimizer.step).parameters.get("closure")
    return closure is not None and closure.default is inspect.Parameter.empty


@contextlib.contextmanager
def in_eval_mode(optimizer: torch.optim.Optimizer) -> Iterator[None]:
    """Use the evaluation weights of a schedule-free optimizer inside a ``with`` block.

    Has no effect for other optimizers. The training weights are restored exactly,
    because ``eval()`` and ``train()`` interpolate between both sets of weights with
    rounding errors, and training would depend on the number of evaluations.
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
