"""The learning rate where a method starts, proposed when it is chosen in the window."""

from __future__ import annotations

import weakref
from collections.abc import Mapping
from types import ModuleType
from typing import Any

from ...methods import usual_lr
from ._check import options_of
from ._choices import method_of
from ._console import say
from ._hooks import tolerated
from ._points import arguments_of, point, wrap

__all__ = [
    "is_far",
    "propose_in_dialog",
    "propose_in_tab",
    "without_choice",
]

FAR = 10.0
_LOST = "its learning rate is not proposed when it is chosen"

# By configuration: the rate that was proposed last, and the one that it took the place
# of.
_proposed: weakref.WeakKeyDictionary[Any, tuple[float, str]] = (
    weakref.WeakKeyDictionary()
)

# Whether the host is building the tab; unknown until the hook for that is in place.
_building: list[bool] = []


def is_far(usual: float, rate: float | None) -> bool:
    """Whether a rate is empty, or more than ten times off the usual one."""
    if rate is None:
        return True
    return rate != 0 and not 1 / FAR <= rate / usual <= FAR


def propose_in_tab(module: ModuleType) -> None:
    """Propose a rate when an optimizer is chosen in the training tab."""
    _propose(point(module, "TrainingTabController"))


def propose_in_dialog(module: ModuleType) -> None:
    """Propose a rate when an optimizer is chosen in the dialog of its settings."""
    _propose(point(module, "OptimizerParamsWindowController"))


def without_choice(module: ModuleType) -> None:
    """Leave the rate of a loaded configuration while the host builds the tab.

    Building calls the dropdown's command too, though nobody has chosen anything.
    """

    def build(original: Any, *args: Any, **kwargs: Any) -> Any:
        _building[:] = [True]
        try:
            return original(*args, **kwargs)
        finally:
            _building[:] = [False]

    wrap(point(module, "BaseTrainingTabView"), "build", build)
    _building[:] = [False]


def _propose(controllers: Any) -> None:
    def restore(original: Any, self: Any, *args: Any, **kwargs: Any) -> Any:
        result = original(self, *args, **kwargs)
        with tolerated(_LOST):
            if _building == [False]:
                _settle(self, arguments_of(original, (self, *args), kwargs))
        return result

    wrap(controllers, "restore_optimizer_config", restore, "ui_state")


def _settle(controller: Any, given: Mapping[str, Any]) -> None:
    config = point(controller, "config")
    field = point(given["ui_state"], "get_var")("learning_rate")
    method, rate = method_of(config), point(config, "learning_rate")
    proposed, before = _proposed.get(config, (None, field.get()))
    untouched = proposed is not None and rate == proposed
    if method is None:
        if untouched:
            field.set(before)
            say(f"The learning rate is {before or 'empty'} again.")
        _proposed.pop(config, None)
        return
    usual = usual_lr(method, options_of(method, config))
    if not untouched and not is_far(usual, rate):
        return
    if not untouched:
        before = field.get()
    _proposed[config] = usual, before
    if rate != usual:
        field.set(str(usual))
        was = "empty" if rate is None else f"{rate:g}"
        say(
            f"The learning rate is set to {usual:g}, where {method.label} "
            f"starts; it was {was}."
        )
