"""Contract tests of a method."""

from __future__ import annotations

from typing import Any

from .._exceptions import OptionError, reason_of
from ..methods import CATALOGUE, check_options, method
from ..optim import LoraOptimizer
from ..optim.lora_optimizer import without_betas
from .contract import CHECKS, LEARNED, Case
from .nets import LoraNet, backward, task, train

__all__ = ["check_method"]

# Multiples of default_lr: a good rate for a large model is slow on a small one.
_FASTER = (1, 3, 10, 30, 100, 300)
_STEPS = 150


def check_method(
    method_or_name: type[LoraOptimizer] | str,
    *,
    lr: float | None = None,
    **options: Any,
) -> None:
    """Check that a method meets the requirements of trainers.

    The checks include training on a small task, exact resuming, parameters without
    gradients, learning rate schedulers and invalid options. Takes a few seconds.

    Args:
        method_or_name: a registered class, or its name in the catalogue.
        lr: learning rate for a small network and 150 steps. If None, learning rates
            from ``default_lr`` to 300 times ``default_lr`` are tried.
        options: options of the method.

    Raises:
        AssertionError: If a check fails. The message has one line per failed check.
        OptionError: If no method has this name, or it has no such option.
    """
    cls = _class_of(method_or_name)
    check_options(method(cls.method), without_betas(method(cls.method), options))
    case = Case(cls, lr or _rate(cls, options), options)
    failed: list[str] = []
    first: Exception | None = None
    for check in CHECKS:
        try:
            check(case)
        # The code of a method can raise anything.
        except Exception as error:
            first = first or error
            failed.append(f"  {check.__name__.replace('_', ' ')}: {_reason(error)}")
    if failed:
        title = f"{cls.__name__} fails {len(failed)} of {len(CHECKS)} checks"
        title += f" at lr={case.lr:g}:"
        raise AssertionError("\n".join([title, *failed])) from first


def _class_of(method_or_name: object) -> type[LoraOptimizer]:
    if isinstance(method_or_name, str):
        return method(method_or_name).load()
    found: Any = method_or_name
    if isinstance(found, type) and getattr(found, "method", None) in CATALOGUE:
        return found
    shown = found.__name__ if isinstance(found, type) else repr(type(found).__name__)
    raise OptionError(
        f"check_method: {shown} is not a registered optimizer class. Add the "
        "decorator @register(...) to the class, and pass the class or the name of "
        "its method."
    )


def _reason(error: Exception) -> str:
    reason, kind = reason_of(error), type(error).__name__
    plain = isinstance(error, AssertionError) or reason == kind
    return reason if plain else f"{kind}: {reason}"


def _rate(cls: type[LoraOptimizer], options: dict[str, Any]) -> float:
    """Return the first learning rate that reduces the loss, else the default."""
    usual, batch = method(cls.method).default_lr, task()
    for faster in _FASTER:
        model = LoraNet()
        start = backward(model, batch)
        try:
            optimizer = Case(cls, faster * usual, options).make(model)
            if train(model, optimizer, _STEPS, batch) < LEARNED * start:
                return faster * usual
        # The checks report it.
        except Exception:
            return usual
    return usual
